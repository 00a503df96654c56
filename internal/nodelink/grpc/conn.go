package grpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/berthdev/berth/internal/nodelink"
)

const (
	// frameBytes bounds what is sent at once, so that other messages need not wait for a large one on its way through the connection.
	frameBytes = 256 << 10
	// messageBytes bounds a message: 200 assignments of tasks whose definitions are as large as ECS lets them be.
	messageBytes = 32 << 20
)

// The first byte of a frame.
const (
	frameLast = iota
	frameMore
)

// frames is what a session needs of a stream; both sides' have it.
type frames interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// conn is a session over a stream.
type conn struct {
	stream frames
	end    func() // makes the stream end; may be called again

	sending sync.Mutex
	told    *definitions

	receiving sync.Mutex
	heard     *definitions
}

var _ nodelink.Conn = (*conn)(nil)

func newConn(stream frames, end func()) *conn {
	return &conn{stream: stream, end: end, told: newDefinitions(), heard: newDefinitions()}
}

// Send implements nodelink.Conn. It returns when gRPC has taken the message, which it does only as fast as the other side reads.
func (c *conn) Send(ctx context.Context, m nodelink.Message) error {
	stop := context.AfterFunc(ctx, c.end)
	defer stop()
	c.sending.Lock()
	defer c.sending.Unlock()
	data, err := c.told.encode(m)
	if err != nil {
		return err
	}
	if len(data) > messageBytes {
		return fmt.Errorf("a message of %d bytes: no more than %d can be sent", len(data), messageBytes)
	}
	for more := true; more; {
		part := data[:min(len(data), frameBytes)]
		data = data[len(part):]
		more = len(data) > 0
		kind := byte(frameLast)
		if more {
			kind = frameMore
		}
		if err := c.stream.SendMsg(wrapperspb.Bytes(append([]byte{kind}, part...))); err != nil {
			return c.why(ctx, err)
		}
	}
	return nil
}

// Recv implements nodelink.Conn.
func (c *conn) Recv(ctx context.Context) (nodelink.Message, error) {
	stop := context.AfterFunc(ctx, c.end)
	defer stop()
	c.receiving.Lock()
	defer c.receiving.Unlock()
	var data []byte
	for {
		var frame wrapperspb.BytesValue
		if err := c.stream.RecvMsg(&frame); err != nil {
			return nodelink.Message{}, c.why(ctx, err)
		}
		switch {
		case len(frame.Value) == 0 || frame.Value[0] > frameMore:
			return nodelink.Message{}, errors.New("a frame of a kind that this version does not know")
		case len(data)+len(frame.Value) > messageBytes:
			return nodelink.Message{}, fmt.Errorf("a message of more than %d bytes", messageBytes)
		case data == nil:
			data = frame.Value[1:]
		default:
			data = append(data, frame.Value[1:]...)
		}
		if frame.Value[0] == frameLast {
			return c.heard.decode(data)
		}
	}
}

// Close implements nodelink.Conn.
func (c *conn) Close() error {
	c.end()
	return nil
}

// why is the error of a stream as people read it.
func (c *conn) why(ctx context.Context, err error) error {
	switch s, ok := status.FromError(err); {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF): // of a Send: the reason is Recv's
		return nodelink.ErrClosed
	case ok:
		return fmt.Errorf("%w: %s", nodelink.ErrClosed, s.Message())
	}
	return err
}

var (
	_ frames = rpc.ServerStream(nil)
	_ frames = rpc.ClientStream(nil)
)
