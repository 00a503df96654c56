package logdriver

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/timeouts"
)

// fluent hands events to a task's log router by Fluentd's forward protocol, and waits until the router has said that it has them.
type fluent struct {
	spec agent.LogSpec
	conn net.Conn // nil before the first line, and after a failure
}

// position implements output: routers cannot be asked. What was sent and not noted comes twice after a crash.
func (f *fluent) position(context.Context) (model.LogPosition, error) {
	return model.LogPosition{}, nil
}

// fluentEvents is how many events one message carries.
const fluentEvents = 1000

// write implements output.
func (f *fluent) write(ctx context.Context, events []event) (int, error) {
	events = events[:min(len(events), fluentEvents)]
	if f.conn == nil {
		conn, err := dialRouter(ctx, f.spec.Firelens.Dir)
		if err != nil {
			return 0, fmt.Errorf("the task's log router: %w", err)
		}
		f.conn = conn
	}
	chunk := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s %d %d %d", f.spec.ID, events[0].source, events[0].start, len(events)))
	_ = f.conn.SetDeadline(time.Now().Add(timeouts.RouterAnswer))
	_, err := f.conn.Write(f.message(events, chunk))
	if err == nil {
		err = acknowledged(f.conn, chunk)
	}
	if err != nil {
		_ = f.close()
		return 0, fmt.Errorf("the task's log router: %w", err)
	}
	return len(events), nil
}

func (f *fluent) close() error {
	if f.conn == nil {
		return nil
	}
	conn := f.conn
	f.conn = nil
	return conn.Close()
}

// message is one in Forward mode: [tag, [[time, record], …], {chunk, size}].
func (f *fluent) message(events []event, chunk string) []byte {
	var m msgpack
	m.array(3)
	m.text(f.spec.Firelens.Tag)
	m.array(len(events))
	for _, e := range events {
		m.array(2)
		m.time(e.at)
		m.object(4)
		m.text("container_id")
		m.text(f.spec.ID)
		m.text("container_name")
		m.text("/" + f.spec.Container)
		m.text("source")
		m.text(streams[e.source])
		m.text("log")
		m.text(string(bytes.ToValidUTF8(e.text, []byte("\uFFFD"))))
	}
	m.object(2)
	m.text("chunk")
	m.text(chunk)
	m.text("size")
	m.uint32(uint32(len(events)))
	return m.Bytes()
}

// acknowledged reads the router's answer, {"ack": chunk}. Base64 needs no other coding in it.
func acknowledged(r io.Reader, chunk string) error {
	var want msgpack
	want.object(1)
	want.text("ack")
	want.text(chunk)
	got := make([]byte, want.Len())
	if _, err := io.ReadFull(r, got); err != nil {
		return fmt.Errorf("it does not acknowledge: %w", err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		return errors.New("it acknowledges something else")
	}
	return nil
}

// dialRouter connects to the socket in a folder that the router can write: whatever else than a socket has its name is refused, and no
// link is followed, as it might lead to another socket of the machine.
func dialRouter(ctx context.Context, dir string) (net.Conn, error) {
	folder, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("its folder: %w", err)
	}
	defer unix.Close(folder)
	fd, err := unix.Openat(folder, "fluent.sock", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("it does not listen: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "fluent.sock")
	defer socket.Close()
	if info, err := socket.Stat(); err != nil || info.Mode().Type() != os.ModeSocket {
		return nil, errors.New("it does not listen: fluent.sock is no socket")
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.RouterAnswer)
	defer cancel()
	return new(net.Dialer).DialContext(ctx, "unix", filepath.Join("/proc/self/fd", fmt.Sprint(fd)))
}

// msgpack writes the little of MessagePack that the forward protocol needs.
type msgpack struct{ bytes.Buffer }

func (m *msgpack) array(n int) {
	m.WriteByte(0xdd)
	m.put32(uint32(n))
}

func (m *msgpack) object(n int) { m.WriteByte(0x80 | byte(n)) } // at most 15 members

func (m *msgpack) text(s string) {
	switch {
	case len(s) < 32:
		m.WriteByte(0xa0 | byte(len(s)))
	case len(s) < 256:
		m.Write([]byte{0xd9, byte(len(s))})
	default:
		m.WriteByte(0xdb)
		m.put32(uint32(len(s)))
	}
	m.WriteString(s)
}

func (m *msgpack) uint32(v uint32) {
	m.WriteByte(0xce)
	m.put32(v)
}

// time is Fluentd's EventTime: seconds and nanoseconds.
func (m *msgpack) time(at time.Time) {
	m.Write([]byte{0xd7, 0x00})
	m.put32(uint32(at.Unix()))
	m.put32(uint32(at.Nanosecond()))
}

func (m *msgpack) put32(v uint32) { m.Write(binary.BigEndian.AppendUint32(nil, v)) }
