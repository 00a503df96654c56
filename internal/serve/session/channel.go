package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/berthdev/berth/internal/execstream"
	"github.com/berthdev/berth/internal/timeouts"
)

// channel is one data channel. Its run's goroutine owns every field; the others only send to it.
type channel struct {
	s      *session
	record Record
	rel    *reliable

	socket *websocket.Conn // nil while the client is lost
	lostAt time.Time
	from   chan received

	shaken  time.Time // when the handshake began; its end sets ready
	ready   bool
	startBy time.Time // when the command is started without a size
	size    execstream.Size

	started bool
	opened  chan opened
	stream  net.Conn
	say     chan execstream.Frame // to the command
	hear    chan execstream.Frame // from it
	heard   []byte                // of the last frame, not sent yet

	over    bool // the command has ended: what it said is to be acknowledged
	overBy  time.Time
	outcome execstream.Outcome
}

// received is a message of a connection, or its end.
type received struct {
	socket *websocket.Conn
	data   []byte
	err    error
}

// opened is the stream to the node, or why there is none.
type opened struct {
	stream net.Conn
	err    error
}

func newChannel(s *session, r Record) *channel {
	return &channel{s: s, record: r, rel: newReliable(TypeOutput), from: make(chan received), opened: make(chan opened, 1),
		say: make(chan execstream.Frame, 1024)}
}

// run talks with the client until the command, the client or ctx ends. It returns the command's code, or why it has none.
func (c *channel) run(ctx context.Context, socket *websocket.Conn) (int, string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tick := time.NewTicker(timeouts.ResendTick)
	defer tick.Stop()
	c.attach(ctx, socket)
	defer func() {
		if c.socket != nil {
			_ = c.socket.Close()
		}
		if c.stream != nil {
			_ = c.stream.Close()
		}
	}()
	c.shaken = time.Now()
	c.send(PayloadHandshakeRequest, marshal(handshakeRequest{AgentVersion: "3.3.0.0", RequestedClientActions: []clientAction{
		{"SessionType", sessionType{SessionType: "Standard_Stream"}}}}))
	for {
		var hear chan execstream.Frame
		if !c.over && len(c.heard) == 0 && !c.rel.full() {
			hear = c.hear // else the command waits
		}
		select {
		case <-ctx.Done():
			c.outcome.Reason = endReason(ctx)
			c.closeChannel()
			return 0, c.outcome.Reason
		case socket := <-c.s.sockets:
			c.attach(ctx, socket)
			for _, m := range c.rel.renew(time.Now()) {
				c.write(m)
			}
		case in := <-c.from:
			if err := c.receive(ctx, in); err != nil {
				c.finish(execstream.Outcome{Reason: err.Error()})
			}
		case o := <-c.opened:
			c.open(ctx, o)
		case f, ok := <-hear:
			c.listen(f, ok)
		case now := <-tick.C:
			if c.look(ctx, now) {
				return c.outcome.Code, c.outcome.Reason
			}
		}
		c.pass()
		if c.over && c.whole() {
			c.closeChannel()
			return c.outcome.Code, c.outcome.Reason
		}
	}
}

// whole tells whether the client has everything that the command said.
func (c *channel) whole() bool { return c.rel.idle() && len(c.heard) == 0 }

// endReason is the sentence for a session that something else than its command ended.
func endReason(ctx context.Context) string {
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err.Error()
	}
	return errServer.Error()
}

// attach makes socket the client's connection.
func (c *channel) attach(ctx context.Context, socket *websocket.Conn) {
	if c.socket != nil {
		_ = c.socket.Close()
	}
	c.socket = socket
	go func() {
		for {
			kind, data, err := socket.ReadMessage()
			if err == nil && kind != websocket.BinaryMessage {
				continue
			}
			select {
			case c.from <- received{socket, data, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
}

// detach notes that the client is lost; it may come back.
func (c *channel) detach() {
	_ = c.socket.Close()
	c.socket, c.lostAt = nil, time.Now()
}

// write sends a message, if somebody is there; what is not acknowledged is sent again.
func (c *channel) write(m Message) {
	if c.socket == nil {
		return
	}
	_ = c.socket.SetWriteDeadline(time.Now().Add(timeouts.SessionSend))
	if err := c.socket.WriteMessage(websocket.BinaryMessage, m.Bytes()); err != nil {
		c.detach()
	}
}

func (c *channel) send(kind Payload, payload []byte) { c.write(c.rel.send(kind, payload, time.Now())) }

// receive takes in what the client sends. An error ends the session.
func (c *channel) receive(ctx context.Context, in received) error {
	if in.socket != c.socket {
		return nil
	}
	if in.err != nil {
		c.detach()
		return nil
	}
	m, err := Parse(in.data)
	if err != nil {
		c.s.manage.c.Log.Debug("a message of a session is dropped", "session", c.s.id, "error", err)
		return nil // a whole one will be sent again
	}
	switch m.Type {
	case TypeAck:
		return c.rel.acked(m, time.Now())
	case TypeInput:
		if len(c.say)+4 > cap(c.say) {
			return nil // the command does not read: not acknowledged, it will be sent again
		}
		answer, ready := c.rel.receive(m, time.Now())
		if answer != nil {
			c.write(*answer)
		}
		for _, m := range ready {
			if err := c.input(ctx, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// input acts on a message of the client's, in their order.
func (c *channel) input(ctx context.Context, m Message) error {
	switch m.Kind {
	case PayloadHandshakeResponse:
		var h handshakeResponse
		if err := json.Unmarshal(m.Payload, &h); err != nil {
			return errors.New("the client's answer to the handshake cannot be read")
		}
		if why := h.refused(); why != "" {
			return errors.New(why)
		}
		if c.ready {
			return nil
		}
		c.ready, c.startBy = true, time.Now().Add(time.Second)
		c.send(PayloadHandshakeComplete, marshal(handshakeComplete{HandshakeTimeToComplete: int64(time.Since(c.shaken))}))
	case PayloadSize:
		var s size
		if err := json.Unmarshal(m.Payload, &s); err != nil {
			return nil // the terminal keeps its size
		}
		c.size = execstream.Size(s)
		if !c.started {
			c.start(ctx)
			return nil
		}
		return c.tell(execstream.Resize, marshal(c.size))
	case PayloadOutput:
		if !c.started {
			c.start(ctx)
		}
		return c.tell(execstream.Input, m.Payload)
	case PayloadFlag:
		if len(m.Payload) == 4 && m.Payload[3] == flagTerminate {
			return errTerminated
		}
	}
	return nil
}

// tell queues a frame for the command.
func (c *channel) tell(kind execstream.Kind, data []byte) error {
	select {
	case c.say <- execstream.Frame{Kind: kind, Data: data}:
		return nil
	default:
		return errors.New("the command does not read its input")
	}
}

// start has the node run the command.
func (c *channel) start(ctx context.Context) {
	if !c.ready || c.started {
		return
	}
	c.started = true
	go func() {
		ctx, cancel := context.WithTimeout(ctx, timeouts.ExecCall+timeouts.ExecAsk)
		defer cancel()
		stream, err := c.s.manage.c.Open(ctx, c.s.Node)
		c.opened <- opened{stream, err}
	}()
}

// open begins to talk with the command.
func (c *channel) open(ctx context.Context, o opened) {
	if o.err != nil {
		c.s.manage.c.Log.Warn("a session does not reach its task", "session", c.s.id, "task", c.s.Task, "error", o.err)
		c.finish(execstream.Outcome{Reason: "the task's machine cannot be reached now: " + o.err.Error()})
		return
	}
	c.stream, c.hear = o.stream, make(chan execstream.Frame)
	out := execstream.NewWriter(o.stream)
	first := execstream.Command{Task: c.s.Task, Container: c.s.Container, Command: c.s.Command, Terminal: true, Size: c.size}
	go func() {
		err := out.WriteJSON(execstream.Begin, first)
		for err == nil {
			select {
			case f := <-c.say:
				err = out.Write(f.Kind, f.Data)
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		defer close(c.hear)
		in := execstream.NewReader(o.stream)
		for {
			f, err := in.Read()
			if err != nil {
				return
			}
			f.Data = append([]byte(nil), f.Data...)
			select {
			case c.hear <- f:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// listen takes in what comes from the command's machine.
func (c *channel) listen(f execstream.Frame, ok bool) {
	switch {
	case !ok:
		c.finish(execstream.Outcome{Reason: "the task's machine was lost, or its agent was restarted"})
	case f.Kind == execstream.Ended:
		var o execstream.Outcome
		if err := f.Decode(&o); err != nil {
			o.Reason = err.Error()
		}
		c.finish(o)
	case f.Kind == execstream.Output || f.Kind == execstream.Errors:
		c.heard = f.Data
		if said := c.s.manage.c.Said; said != nil {
			said(c.record, f.Data)
		}
	}
}

// pass sends what the command said, as far as the client keeps up.
func (c *channel) pass() {
	for len(c.heard) > 0 && !c.rel.full() {
		n := min(len(c.heard), maxSent)
		c.send(PayloadOutput, c.heard[:n])
		c.heard = c.heard[n:]
	}
}

// finish ends the session once the client has everything.
func (c *channel) finish(o execstream.Outcome) {
	if c.over {
		return
	}
	c.over, c.outcome, c.overBy = true, o, time.Now().Add(timeouts.SessionFlush)
}

// look sends again what is due, and tells whether the session is over.
func (c *channel) look(ctx context.Context, now time.Time) bool {
	if c.over && now.After(c.overBy) {
		c.closeChannel()
		return true
	}
	switch {
	case c.socket == nil && now.Sub(c.lostAt) > timeouts.SessionResume:
		c.outcome.Reason = "the client was lost and did not come back"
		return true
	case c.socket != nil && c.rel.lost(now):
		c.detach()
	case !c.ready && now.Sub(c.shaken) > timeouts.ShakeHands:
		c.finish(execstream.Outcome{Reason: "the client did not answer the handshake"})
	case c.ready && !c.started && now.After(c.startBy):
		c.start(ctx)
	}
	if m, ok := c.rel.due(now); ok {
		c.write(m)
	}
	return false
}

// closeChannel tells the client that the session has ended, and why.
func (c *channel) closeChannel() {
	words := ""
	if c.outcome.Reason != "" {
		words = fmt.Sprintf("The session has ended: %s.", c.outcome.Reason)
	}
	now, id := time.Now(), uuid.New()
	c.write(Message{Type: TypeClosed, Created: uint64(now.UnixMilli()), ID: id, Payload: marshal(closed{MessageId: id.String(),
		CreatedDate: now.UTC().Format(time.RFC3339Nano), SessionId: c.s.id, MessageType: TypeClosed, SchemaVersion: 1, Output: words})})
	if c.socket != nil {
		_ = c.socket.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), now.Add(time.Second))
	}
}

// greeting is the text frame with which a client begins.
func greeting(socket *websocket.Conn) (g Greeting, err error) {
	_ = socket.SetReadDeadline(time.Now().Add(timeouts.ShakeHands))
	kind, data, err := socket.ReadMessage()
	if err != nil {
		return g, err
	}
	if kind != websocket.TextMessage {
		return g, errors.New("the first message is not the client's greeting")
	}
	if err := json.Unmarshal(data, &g); err != nil {
		return g, errors.New("the client's greeting cannot be read")
	}
	return g, socket.SetReadDeadline(time.Time{})
}
