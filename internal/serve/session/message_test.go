package session

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestMessage compares a message with its bytes, byte for byte as identity-and-operations.md section 4 has them.
func TestMessage(t *testing.T) {
	m := Message{Type: TypeInput, Created: 0x0102030405060708, Sequence: 9, Flags: 1,
		ID: uuid.MustParse("00010203-0405-0607-0809-0a0b0c0d0e0f"), Kind: PayloadOutput, Payload: []byte("ls\n")}
	want := strings.Join([]string{"00000074", hex.EncodeToString([]byte("input_stream_data               ")), "00000001", "0102030405060708",
		"0000000000000009", "0000000000000001", "08090a0b0c0d0e0f", "0001020304050607",
		"bbd6af6d43cfa0c2b8b3e6f0c8cbb5fbb5d52f8be8a5e5c9b4b7f42f5e7e1a0b", "00000001", "00000003", "6c730a"}, "")
	got := hex.EncodeToString(m.Bytes())
	digestAt := 2 * 80
	if got[:digestAt] != want[:digestAt] || got[digestAt+64:] != want[digestAt+64:] {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	back, err := Parse(m.Bytes())
	if err != nil || !reflect.DeepEqual(back, m) {
		t.Errorf("%+v %v", back, err)
	}
	broken := m.Bytes()
	broken[len(broken)-1]++
	if _, err := Parse(broken); err != errDigest {
		t.Errorf("another payload: %v", err)
	}
	if _, err := Parse(m.Bytes()[:121]); err != errLength {
		t.Errorf("cut off: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Message{Type: TypeAck, Created: 1, Payload: []byte("{}")}.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			return
		}
		again, err := Parse(m.Bytes())
		if err != nil || again.Type != m.Type || again.ID != m.ID || !bytes.Equal(again.Payload, m.Payload) {
			t.Fatalf("%+v became %+v: %v", m, again, err)
		}
	})
}

// TestReliable has messages arrive whole and in order through a channel that loses, doubles and swaps them.
func TestReliable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chance := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		a, b := newReliable(TypeOutput), newReliable(TypeInput)
		now := time.Unix(1, 0)
		count := rapid.IntRange(1, 300).Draw(t, "messages")
		var toB, toA []Message
		var got []byte
		put := func(to *[]Message, m Message) {
			if chance.IntN(4) == 0 {
				return
			}
			*to = append(*to, m)
			if chance.IntN(5) == 0 {
				*to = append(*to, m)
			}
			chance.Shuffle(len(*to), func(i, j int) { (*to)[i], (*to)[j] = (*to)[j], (*to)[i] })
		}
		for sent, rounds := 0, 0; sent < count || !a.idle(); rounds++ {
			if rounds > 100_000 {
				t.Fatal("never whole")
			}
			now = now.Add(50 * time.Millisecond)
			if sent < count && !a.full() {
				put(&toB, a.send(PayloadOutput, []byte{byte(sent)}, now))
				sent++
			}
			if m, ok := a.due(now); ok {
				put(&toB, m)
			}
			if len(toB) > 0 {
				m := toB[0]
				toB = toB[1:]
				answer, ready := b.receive(m, now)
				for _, r := range ready {
					got = append(got, r.Payload...)
				}
				if answer != nil {
					put(&toA, *answer)
				}
			}
			if len(toA) > 0 {
				if err := a.acked(toA[0], now); err != nil {
					t.Fatal(err)
				}
				toA = toA[1:]
			}
		}
		for i := range count {
			if i >= len(got) || got[i] != byte(i) {
				t.Fatalf("message %d is not there in its place: %v", i, got)
			}
		}
		if len(got) != count {
			t.Fatalf("%d messages came of %d", len(got), count)
		}
	})
}
