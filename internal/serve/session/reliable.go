package session

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/berthdev/berth/internal/timeouts"
)

// reliable makes a stream of messages that may be lost, doubled or swapped into one that is whole and in order, both ways. It is pure: what
// is to be sent is returned, and now is an argument.
type reliable struct {
	kind string // of the messages that this side sends
	next int64  // the sequence number of the next one
	sent []pending

	expected int64
	early    map[int64]Message

	rtt, deviation, pause time.Duration // Jacobson's
}

// pending was not acknowledged yet.
type pending struct {
	Message
	first, last time.Time // sent
	again       bool
}

// Bounds of what a reliable holds.
const (
	maxUnacked = 128
	maxEarly   = 1024
)

func newReliable(kind string) *reliable {
	return &reliable{kind: kind, early: map[int64]Message{}, pause: timeouts.ResendLeast}
}

// full tells whether so much is not acknowledged that no more may be sent.
func (r *reliable) full() bool { return len(r.sent) >= maxUnacked }

// idle tells whether everything was acknowledged.
func (r *reliable) idle() bool { return len(r.sent) == 0 }

// send makes the next message.
func (r *reliable) send(kind Payload, payload []byte, now time.Time) Message {
	m := Message{Type: r.kind, Created: uint64(now.UnixMilli()), Sequence: r.next, ID: uuid.New(), Kind: kind, Payload: payload}
	if r.next == 0 {
		m.Flags = flagSYN
	}
	r.next++
	r.sent = append(r.sent, pending{Message: m, first: now, last: now})
	return m
}

// acked takes in an acknowledgement.
func (r *reliable) acked(m Message, now time.Time) error {
	var a ack
	if err := json.Unmarshal(m.Payload, &a); err != nil {
		return errors.New("an acknowledgement cannot be read")
	}
	for i, p := range r.sent {
		if p.Sequence != a.AcknowledgedMessageSequenceNumber {
			continue
		}
		if !p.again { // of one that was sent twice nobody knows which was acknowledged
			r.measure(now.Sub(p.first))
		}
		r.sent = append(r.sent[:i], r.sent[i+1:]...)
		return nil
	}
	return nil
}

// measure takes in how long an acknowledgement took.
func (r *reliable) measure(took time.Duration) {
	if r.rtt == 0 {
		r.rtt, r.deviation = took, took/2
	} else {
		off := took - r.rtt
		r.rtt += off / 8
		r.deviation += (max(off, -off) - r.deviation) / 4
	}
	r.pause = min(max(r.rtt+4*r.deviation, timeouts.ResendLeast), timeouts.ResendMost)
}

// due is the message that is to be sent again: the oldest that was not acknowledged in time.
func (r *reliable) due(now time.Time) (Message, bool) {
	if len(r.sent) == 0 || now.Sub(r.sent[0].last) < r.pause {
		return Message{}, false
	}
	r.sent[0].last, r.sent[0].again = now, true
	return r.sent[0].Message, true
}

// lost tells whether nothing was acknowledged for so long that nobody listens.
func (r *reliable) lost(now time.Time) bool {
	return len(r.sent) > 0 && now.Sub(r.sent[0].first) > timeouts.ResendGiveUp
}

// renew is for another connection: everything that was not acknowledged is sent again, and nobody is late.
func (r *reliable) renew(now time.Time) []Message {
	var all []Message
	for i := range r.sent {
		r.sent[i].first, r.sent[i].last, r.sent[i].again = now, now, true
		all = append(all, r.sent[i].Message)
	}
	return all
}

// receive takes in a stream message and returns what is to be acknowledged, if anything, and what has come in order.
func (r *reliable) receive(m Message, now time.Time) (answer *Message, ready []Message) {
	switch {
	case m.Sequence < r.expected: // the acknowledgement was lost
	case m.Sequence > r.expected:
		if len(r.early) >= maxEarly {
			return nil, nil // it will be sent again
		}
		r.early[m.Sequence] = m
	default:
		for ok := true; ok; m, ok = r.early[r.expected] {
			delete(r.early, m.Sequence)
			ready = append(ready, m)
			r.expected++
		}
		m = ready[0]
	}
	return &Message{Type: TypeAck, Created: uint64(now.UnixMilli()), Flags: flagAck, ID: uuid.New(), Payload: marshal(ack{m.Type, m.ID.String(), m.Sequence, true})}, ready
}
