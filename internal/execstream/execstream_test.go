package execstream

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	long := bytes.Repeat([]byte("x"), MaxFrame+7)
	if err := errors.Join(w.WriteJSON(Begin, Command{Task: "t", Command: []string{"sh"}}), w.Write(Eof, nil), w.Write(Output, long),
		w.WriteJSON(Ended, Outcome{Code: 3})); err != nil {
		t.Fatal(err)
	}
	r := NewReader(&b)
	var got []Kind
	var data []byte
	for {
		f, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Kind)
		if f.Kind == Output {
			data = append(data, f.Data...)
		}
		var o Outcome
		if f.Kind == Ended {
			if err := f.Decode(&o); err != nil || o.Code != 3 {
				t.Errorf("outcome %+v %v", o, err)
			}
		}
	}
	if want := []Kind{Begin, Eof, Output, Output, Ended}; !slices.Equal(got, want) || !bytes.Equal(data, long) {
		t.Errorf("got %q with %d bytes", got, len(data))
	}
	if _, err := NewReader(bytes.NewReader([]byte{'o', 0, 1, 0, 1})).Read(); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
	if _, err := NewReader(bytes.NewReader([]byte{'o', 0, 0, 0, 9, 1})).Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{'o', 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		for {
			if f, err := r.Read(); err != nil || len(f.Data) > MaxFrame {
				return
			}
		}
	})
}

func TestSplit(t *testing.T) {
	for line, want := range map[string][]string{
		"/bin/sh":                     {"/bin/sh"},
		"  ls   -la\t/ ":              {"ls", "-la", "/"},
		`sh -c 'echo "a b" | wc'`:     {"sh", "-c", `echo "a b" | wc`},
		`sh -c "echo \"a\" \$HOME"`:   {"sh", "-c", `echo "a" $HOME`},
		`a\ b '' "" 'it'\''s' "x\ny"`: {"a b", "", "", "it's", `x\ny`},
		"":                            nil,
	} {
		if got, err := Split(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q %v, want %q", line, got, err, want)
		}
	}
	for _, line := range []string{`sh -c 'x`, `"`, `a\`} {
		if _, err := Split(line); !errors.Is(err, ErrQuote) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestJoin has Split take apart what Join made.
func TestJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.String()).Draw(t, "words")
		for _, w := range words {
			if !utf8.ValidString(w) {
				return
			}
		}
		got, err := Split(Join(words))
		if err != nil || !slices.Equal(got, words) && len(words) > 0 {
			t.Fatalf("%q became %q: %v", words, got, err)
		}
	})
}
