package session

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Types of messages.
const (
	TypeOutput = "output_stream_data" // from the server
	TypeInput  = "input_stream_data"  // to it
	TypeAck    = "acknowledge"
	TypeClosed = "channel_closed"
)

// Payload is what a stream message carries.
type Payload uint32

// The payloads.
const (
	PayloadOutput            Payload = 1 // or input
	PayloadError             Payload = 2
	PayloadSize              Payload = 3
	PayloadHandshakeRequest  Payload = 5
	PayloadHandshakeResponse Payload = 6
	PayloadHandshakeComplete Payload = 7
	PayloadFlag              Payload = 10
)

// Flags of messages.
const (
	flagSYN = 1
	flagAck = 3
)

// flagTerminate is the PayloadFlag by which a client ends its session.
const flagTerminate = 2

// Message is one binary frame of the data channel.
type Message struct {
	Type     string
	Created  uint64 // ms since 1970; not 0
	Sequence int64
	Flags    uint64
	ID       uuid.UUID
	Kind     Payload
	Payload  []byte
}

// headerLength is the offset of the payload's length; payloadAt that of the payload.
const (
	headerLength = 116
	payloadAt    = headerLength + 4
)

// maxPayload bounds what is taken; what is sent has maxSent at most.
const (
	maxPayload = 128 << 10
	maxSent    = 1024
)

// The errors of Parse.
var (
	errShort  = errors.New("a message of the data channel is too short")
	errLength = errors.New("the lengths in a message of the data channel do not fit it")
	errDigest = errors.New("the digest in a message of the data channel is not its payload's")
)

// Bytes is the message as it is sent.
func (m Message) Bytes() []byte {
	b := make([]byte, payloadAt+len(m.Payload))
	binary.BigEndian.PutUint32(b, headerLength)
	copy(b[4:36], fmt.Sprintf("%-32s", m.Type))
	binary.BigEndian.PutUint32(b[36:], 1)
	binary.BigEndian.PutUint64(b[40:], m.Created)
	binary.BigEndian.PutUint64(b[48:], uint64(m.Sequence))
	binary.BigEndian.PutUint64(b[56:], m.Flags)
	copy(b[64:72], m.ID[8:]) // the low half first
	copy(b[72:80], m.ID[:8])
	digest := sha256.Sum256(m.Payload)
	copy(b[80:112], digest[:])
	binary.BigEndian.PutUint32(b[112:], uint32(m.Kind))
	binary.BigEndian.PutUint32(b[headerLength:], uint32(len(m.Payload)))
	copy(b[payloadAt:], m.Payload)
	return b
}

// Parse reads a message.
func Parse(b []byte) (m Message, err error) {
	if len(b) < payloadAt {
		return m, errShort
	}
	if n := binary.BigEndian.Uint32(b); n != headerLength {
		return m, errLength
	}
	n := binary.BigEndian.Uint32(b[headerLength:])
	if n > maxPayload || int(n) != len(b)-payloadAt {
		return m, errLength
	}
	m.Type = strings.TrimRight(string(b[4:36]), " \x00")
	m.Created = binary.BigEndian.Uint64(b[40:])
	m.Sequence = int64(binary.BigEndian.Uint64(b[48:]))
	m.Flags = binary.BigEndian.Uint64(b[56:])
	copy(m.ID[8:], b[64:72])
	copy(m.ID[:8], b[72:80])
	m.Kind = Payload(binary.BigEndian.Uint32(b[112:]))
	m.Payload = b[payloadAt:]
	if digest := sha256.Sum256(m.Payload); !bytes.Equal(digest[:], b[80:112]) {
		return m, errDigest
	}
	return m, nil
}

// ack is the payload of an acknowledgement.
type ack struct {
	AcknowledgedMessageType           string
	AcknowledgedMessageId             string
	AcknowledgedMessageSequenceNumber int64
	IsSequentialMessage               bool
}

// Greeting is the text frame with which a client begins, and begins again.
type Greeting struct {
	MessageSchemaVersion string
	RequestId            string
	TokenValue           string
	ClientId             string
	ClientVersion        string
}

// handshakeRequest asks the client for what the server needs of it.
type handshakeRequest struct {
	AgentVersion           string
	RequestedClientActions []clientAction
}

type clientAction struct {
	ActionType       string
	ActionParameters any
}

type sessionType struct {
	SessionType string
	Properties  struct{}
}

// handshakeResponse is the client's answer.
type handshakeResponse struct {
	ClientVersion          string
	ProcessedClientActions []struct {
		ActionType   string
		ActionStatus int // 1: done
		Error        string
	}
	Errors []string
}

// refused is why the client did not do what the handshake asked; "" when it did.
func (h handshakeResponse) refused() string {
	for _, a := range h.ProcessedClientActions {
		if a.ActionStatus != 1 {
			return fmt.Sprintf("the client cannot do %s: %s", a.ActionType, a.Error)
		}
	}
	return strings.Join(h.Errors, "; ")
}

type handshakeComplete struct {
	HandshakeTimeToComplete int64 // ns
	CustomerMessage         string
}

// closed is the payload of channel_closed. Output is shown to the user.
type closed struct {
	MessageId     string
	CreatedDate   string
	DestinationId string
	SessionId     string
	MessageType   string
	SchemaVersion int
	Output        string
}

// size is the payload of PayloadSize.
type size struct {
	Columns uint16 `json:"cols"`
	Rows    uint16 `json:"rows"`
}

func marshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers always can be
	}
	return data
}
