// Package link is how the process of the load balancers and the node that keeps it talk: frames of JSON and descriptors over a socket
// that only their user may open. Server is the proxy's half: it takes the table and its changes, and reports the health of targets,
// problems of ports and the listening sockets, of which the node keeps duplicates. Client is the node's half.
package link

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/timeouts"
)

const (
	// maxFrame bounds a message.
	maxFrame = 64 << 20
	// maxDescriptors bounds those of one message; the kernel's own bound is 253.
	maxDescriptors = 64
)

// ErrFrame says that what came is no frame.
var ErrFrame = errors.New("what came over the link is no message")

// WriteFrame writes one message: its length in four bytes, and the message.
func WriteFrame(w io.Writer, m *Message) error {
	frame, err := encode(m)
	if err != nil {
		return err
	}
	_, err = w.Write(frame)
	return err
}

func encode(m *Message) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 4, 512))
	if err := json.NewEncoder(b).Encode(m); err != nil {
		return nil, err
	}
	n := b.Len() - 4
	if n > maxFrame {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are taken", ErrFrame, n, maxFrame)
	}
	binary.BigEndian.PutUint32(b.Bytes(), uint32(n))
	return b.Bytes(), nil
}

// ReadFrame reads one message. The error is io.EOF at the end, and io.ErrUnexpectedEOF where the writer was interrupted.
func ReadFrame(r io.Reader) (*Message, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n > maxFrame {
		return nil, fmt.Errorf("%w: it says that it has %d bytes", ErrFrame, n)
	}
	var body bytes.Buffer // grows with what comes, not with what is announced
	if _, err := io.CopyN(&body, r, n); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	m := new(Message)
	if err := json.Unmarshal(body.Bytes(), m); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFrame, err)
	}
	return m, nil
}

// Conn carries messages. One goroutine may receive, any may send.
type Conn struct {
	c  *net.UnixConn
	in descriptors

	mu sync.Mutex // of sending
}

// NewConn makes a Conn of a connection, which is closed with it.
func NewConn(c *net.UnixConn) *Conn { return &Conn{c: c, in: descriptors{c: c}} }

// Dial connects to the process that listens on a socket.
func Dial(socket string) (*Conn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return NewConn(c), nil
}

// Peer is the process that listens on the other side, or that made the pair of sockets.
func (c *Conn) Peer() (pid int, err error) {
	raw, err := c.c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return 0, cerr
	}
	if err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

// Send sends a message and duplicates of descriptors, which stay the caller's.
func (c *Conn) Send(m *Message, descriptors ...int) error {
	frame, err := encode(m)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.c.SetWriteDeadline(time.Now().Add(timeouts.LinkSend)); err != nil {
		return err
	}
	if len(descriptors) > 0 { // they travel with the length
		n, _, err := c.c.WriteMsgUnix(frame[:4], unix.UnixRights(descriptors...), nil)
		if err != nil {
			return err
		}
		frame = frame[n:]
	}
	_, err = c.c.Write(frame)
	return err
}

// Receive waits for a message; limit 0 waits for ever. The descriptors that came with it are the caller's to close.
func (c *Conn) Receive(limit time.Duration) (*Message, []int, error) {
	var at time.Time
	if limit > 0 {
		at = time.Now().Add(limit)
	}
	if err := c.c.SetReadDeadline(at); err != nil {
		return nil, nil, err
	}
	m, err := ReadFrame(&c.in)
	got := c.in.take()
	if err == nil && m.Sockets != nil && len(m.Sockets.Names) != len(got) {
		err = fmt.Errorf("%w: %d descriptors for %d sockets", ErrFrame, len(got), len(m.Sockets.Names))
	}
	if err == nil && m.Sockets == nil && len(got) > 0 {
		err = fmt.Errorf("%w: descriptors that nobody named", ErrFrame)
	}
	if err != nil {
		closeAll(got)
		return nil, nil, err
	}
	return m, got, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return c.c.Close() }

func closeAll(descriptors []int) {
	for _, fd := range descriptors {
		_ = unix.Close(fd) // nothing can be done about one that does not close
	}
}

// descriptors reads a connection and keeps the descriptors that come with its bytes. A read never goes past bytes that carry some, so
// those of a message have come when its last byte has, and those of the next one have not.
type descriptors struct {
	c    *net.UnixConn
	kept []int
}

// Read implements io.Reader.
func (d *descriptors) Read(b []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4*maxDescriptors))
	n, used, flags, _, err := d.c.ReadMsgUnix(b, oob)
	if used > 0 {
		if perr := d.parse(oob[:used]); perr != nil && err == nil {
			err = perr
		}
	}
	if flags&unix.MSG_CTRUNC != 0 && err == nil {
		err = fmt.Errorf("%w: too many descriptors", ErrFrame)
	}
	return n, err
}

func (d *descriptors) parse(oob []byte) error {
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return err
	}
	for i := range all {
		got, err := unix.ParseUnixRights(&all[i])
		if err != nil {
			continue // a control message of another kind
		}
		d.kept = append(d.kept, got...)
	}
	if len(d.kept) > maxDescriptors {
		closeAll(d.take())
		return fmt.Errorf("%w: too many descriptors", ErrFrame)
	}
	return nil
}

func (d *descriptors) take() []int {
	kept := d.kept
	d.kept = nil
	return kept
}
