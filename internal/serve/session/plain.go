package session

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/gorilla/websocket"

	"github.com/berthdev/berth/internal/execstream"
	"github.com/berthdev/berth/internal/timeouts"
)

// Plain begins the ClientVersion of clients that speak execstream's frames, one a message, instead of the data channel's: `berth exec`.
const Plain = "berth/"

// runPlain hands on frames between a client and its command, until either ends.
func (s *session) runPlain(ctx context.Context, socket *websocket.Conn) (int, string) {
	defer socket.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tell := func(f execstream.Frame) error {
		_ = socket.SetWriteDeadline(time.Now().Add(timeouts.SessionSend))
		var b bytes.Buffer
		if err := execstream.NewWriter(&b).Write(f.Kind, f.Data); err != nil {
			return err
		}
		return socket.WriteMessage(websocket.BinaryMessage, b.Bytes())
	}
	end := func(reason string) (int, string) {
		_ = tell(execstream.Frame{Kind: execstream.Ended, Data: marshal(execstream.Outcome{Reason: reason})}) // a client that is gone needs no reason
		return 0, reason
	}
	var c execstream.Command
	first, err := plainFrame(socket)
	if err == nil && first.Kind != execstream.Begin {
		err = errors.New("the client did not begin with a command")
	}
	if err == nil {
		err = first.Decode(&c)
	}
	if err != nil {
		return end(err.Error())
	}
	c.Task, c.Container, c.Command = s.Task, s.Container, s.Command
	opening, done := context.WithTimeout(ctx, timeouts.ExecCall+timeouts.ExecAsk)
	stream, err := s.manage.c.Open(opening, s.Node)
	done()
	if err != nil {
		return end("the task's machine cannot be reached now: " + err.Error())
	}
	defer stream.Close()
	context.AfterFunc(ctx, func() { _ = stream.Close() })
	out, in := execstream.NewWriter(stream), execstream.NewReader(stream)
	if err := out.WriteJSON(execstream.Begin, c); err != nil {
		return end("the task's machine was lost: " + err.Error())
	}
	go func() {
		for {
			f, err := plainFrame(socket)
			if err == nil && f.Kind != execstream.Begin {
				err = out.Write(f.Kind, f.Data)
			}
			if err != nil {
				cancel(errors.New("the client is gone"))
				return
			}
		}
	}()
	said := s.manage.c.Said
	for {
		f, err := in.Read()
		if err != nil {
			reason := "the task's machine was lost, or its agent was restarted"
			if ctx.Err() != nil {
				reason = endReason(ctx)
			}
			return end(reason)
		}
		if said != nil && f.Kind != execstream.Ended {
			said(Record{Spec: s.Spec, ID: s.id, Began: s.begun}, f.Data)
		}
		if err := tell(f); err != nil {
			return 0, "the client is gone"
		}
		if f.Kind == execstream.Ended {
			var o execstream.Outcome
			if err := f.Decode(&o); err != nil {
				o.Reason = err.Error()
			}
			_ = socket.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
			return o.Code, o.Reason
		}
	}
}

// plainFrame reads the frame that a message is.
func plainFrame(socket *websocket.Conn) (execstream.Frame, error) {
	kind, data, err := socket.ReadMessage()
	if err != nil {
		return execstream.Frame{}, err
	}
	if kind != websocket.BinaryMessage {
		return execstream.Frame{}, errors.New("a message is not binary")
	}
	return execstream.NewReader(bytes.NewReader(data)).Read()
}
