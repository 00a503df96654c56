// Package sessiontest is a client of the data channel that behaves as the stock session-manager-plugin does, for tests: it acknowledges
// what it reads, sends again what is not acknowledged, and can be told to lose what it gets.
package sessiontest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/berthdev/berth/internal/serve/session"
)

// Client is one client. Its methods may be called from one goroutine besides its own.
type Client struct {
	// Lose, when not nil, tells of each message that comes whether it is lost on the way. Set it before Dial.
	Lose func(session.Message) bool

	write sync.Mutex // of the socket
	mu    sync.Mutex
	conn  *websocket.Conn
	out   bytes.Buffer
	more  chan struct{}
	next  int64             // sequence number of what is sent
	sent  []session.Message // and not acknowledged
	want  int64             // of what is expected
	early map[int64]session.Message
	End   chan struct{} // closed with the channel
	Words string        // of channel_closed; read it after End
}

// Dial connects and greets; the rest is done beside.
func (c *Client) Dial(url, token string) error {
	conn, _, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		return err
	}
	hello, _ := json.Marshal(session.Greeting{MessageSchemaVersion: "1.0", RequestId: uuid.NewString(), TokenValue: token, // strings always can be
		ClientId: uuid.NewString(), ClientVersion: "1.2.764.0"})
	if err := conn.WriteMessage(websocket.TextMessage, hello); err != nil {
		return err
	}
	c.mu.Lock()
	c.conn = conn
	if c.End == nil {
		c.End, c.more, c.early = make(chan struct{}), make(chan struct{}), map[int64]session.Message{}
	}
	c.mu.Unlock()
	go c.read(conn)
	go c.resend(conn)
	return nil
}

// resend sends the oldest message again as long as it is not acknowledged.
func (c *Client) resend(conn *websocket.Conn) {
	for range time.Tick(100 * time.Millisecond) {
		c.mu.Lock()
		sent, now := c.sent, c.conn
		c.mu.Unlock()
		if now != conn {
			return
		}
		if len(sent) > 0 && c.put(sent[0]) != nil {
			return
		}
	}
}

func (c *Client) read(conn *websocket.Conn) {
	for {
		_, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		m, err := session.Parse(data)
		if err != nil {
			panic(err)
		}
		if c.Lose != nil && c.Lose(m) {
			continue
		}
		switch m.Type {
		case session.TypeClosed:
			var closed struct{ Output string }
			_ = json.Unmarshal(m.Payload, &closed)
			c.Words = closed.Output
			close(c.End)
			return
		case session.TypeAck:
			var ack struct{ AcknowledgedMessageSequenceNumber int64 }
			_ = json.Unmarshal(m.Payload, &ack)
			c.mu.Lock()
			c.sent = slices.DeleteFunc(slices.Clone(c.sent), func(o session.Message) bool { return o.Sequence == ack.AcknowledgedMessageSequenceNumber })
			c.mu.Unlock()
		case session.TypeOutput:
			c.acknowledge(m)
			c.mu.Lock()
			c.early[m.Sequence] = m
			c.mu.Unlock()
			for c.take() {
			}
		}
	}
}

// take acts on the next message, if it is there.
func (c *Client) take() bool {
	c.mu.Lock()
	m, ok := c.early[c.want]
	if !ok {
		c.mu.Unlock()
		return false
	}
	delete(c.early, c.want)
	c.want++
	if m.Kind == session.PayloadOutput {
		c.out.Write(m.Payload)
		close(c.more)
		c.more = make(chan struct{})
	}
	c.mu.Unlock()
	if m.Kind == session.PayloadHandshakeRequest {
		_ = c.Send(session.PayloadHandshakeResponse, []byte(`{"ClientVersion":"1.2.764.0","ProcessedClientActions":[{"ActionType":"SessionType",`+
			`"ActionStatus":1,"ActionResult":null,"Error":""}],"Errors":[]}`))
	}
	if m.Kind == session.PayloadHandshakeComplete {
		_ = c.Send(session.PayloadSize, []byte(`{"cols":120,"rows":40}`))
	}
	return true
}

func (c *Client) acknowledge(m session.Message) {
	payload, _ := json.Marshal(map[string]any{"AcknowledgedMessageType": m.Type, "AcknowledgedMessageId": m.ID.String(),
		"AcknowledgedMessageSequenceNumber": m.Sequence, "IsSequentialMessage": true})
	_ = c.put(session.Message{Type: session.TypeAck, Created: uint64(time.Now().UnixMilli()), Flags: 3, ID: uuid.New(), Payload: payload})
}

// Send sends a message of the input stream.
func (c *Client) Send(kind session.Payload, payload []byte) error {
	c.mu.Lock()
	m := session.Message{Type: session.TypeInput, Created: uint64(time.Now().UnixMilli()), Sequence: c.next, ID: uuid.New(), Kind: kind, Payload: payload}
	c.next++
	c.sent = append(c.sent, m)
	c.mu.Unlock()
	return c.put(m)
}

// Type sends keys.
func (c *Client) Type(keys string) error { return c.Send(session.PayloadOutput, []byte(keys)) }

func (c *Client) put(m session.Message) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	c.write.Lock()
	defer c.write.Unlock()
	return conn.WriteMessage(websocket.BinaryMessage, m.Bytes())
}

// Drop breaks the connection.
func (c *Client) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.conn.Close()
}

// Said is the output so far.
func (c *Client) Said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

// Hear waits until the output holds text.
func (c *Client) Hear(text string, patience time.Duration) error {
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		said, more := c.out.String(), c.more
		c.mu.Unlock()
		if strings.Contains(said, text) {
			return nil
		}
		select {
		case <-more:
		case <-c.End:
			if strings.Contains(c.Said(), text) {
				return nil
			}
			return fmt.Errorf("the session ended (%q) without %q; it said %q", c.Words, text, c.Said())
		case <-deadline:
			return fmt.Errorf("did not hear %q but %q", text, said)
		}
	}
}

// Ended waits for the end and returns its words.
func (c *Client) Ended(patience time.Duration) (string, error) {
	select {
	case <-c.End:
		return c.Words, nil
	case <-time.After(patience):
		return "", fmt.Errorf("the session does not end; it said %q", c.Said())
	}
}
