package logdriver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/node/agent"
)

// unpack reads the MessagePack that the driver writes.
func unpack(r io.Reader) (any, error) {
	var head [1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	number := func(n int) int {
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return -1
		}
		return int(binary.BigEndian.Uint32(append(make([]byte, 4-n), b...)))
	}
	text := func(n int) (any, error) {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return string(b), err
	}
	list := func(n int) (any, error) {
		var all []any
		for range n {
			v, err := unpack(r)
			if err != nil {
				return nil, err
			}
			all = append(all, v)
		}
		return all, nil
	}
	switch c := head[0]; {
	case c == 0xdd:
		return list(number(4))
	case c&0xf0 == 0x80:
		m := map[string]any{}
		for range c & 0x0f {
			k, err := unpack(r)
			v, err2 := unpack(r)
			if err := errors.Join(err, err2); err != nil {
				return nil, err
			}
			m[k.(string)] = v
		}
		return m, nil
	case c&0xe0 == 0xa0:
		return text(int(c & 0x1f))
	case c == 0xd9:
		return text(number(1))
	case c == 0xdb:
		return text(number(4))
	case c == 0xce:
		return number(4), nil
	case c == 0xd7:
		number(1)
		return time.Unix(int64(number(4)), int64(number(4))), nil
	default:
		return nil, fmt.Errorf("unknown byte %x", c)
	}
}

// routes plays a task's log router: it sends what it gets, and acknowledges when it is told.
func routes(t *testing.T, dir string, acknowledge func() bool) <-chan []any {
	t.Helper()
	t.Chdir(dir) // a socket's path is short
	l, err := net.Listen("unix", "fluent.sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got := make(chan []any, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for {
				v, err := unpack(c)
				if err != nil {
					break
				}
				message := v.([]any)
				if !acknowledge() {
					break
				}
				got <- message
				var m msgpack
				m.object(1)
				m.text("ack")
				m.text(message[2].(map[string]any)["chunk"].(string))
				_, _ = c.Write(m.Bytes())
			}
			c.Close()
		}
	}()
	return got
}

func TestFluent(t *testing.T) {
	dir := t.TempDir()
	f := &fluent{spec: agent.LogSpec{ID: "task-web", Container: "web", Firelens: &agent.FirelensSpec{Dir: dir, Tag: "web-firelens-task"}}}
	at := time.Unix(1000, 5_000_000)
	events := []event{{text: []byte("one"), at: at}, {text: []byte(strings.Repeat("long ", 100)), at: at, source: 1, start: 4}}
	if _, err := f.write(t.Context(), events); err == nil || !strings.Contains(err.Error(), "does not listen") {
		t.Errorf("without a router: %v", err)
	}
	var deaf atomic.Bool
	deaf.Store(true)
	got := routes(t, dir, func() bool { return !deaf.Load() })
	if n, err := f.write(t.Context(), events); err == nil {
		t.Errorf("%d lines were taken without an acknowledgement", n)
	}
	deaf.Store(false)
	if n, err := f.write(t.Context(), events); err != nil || n != 2 {
		t.Fatalf("%d %v", n, err)
	}
	message := <-got
	first, second := message[1].([]any)[0].([]any), message[1].([]any)[1].([]any)
	if message[0] != "web-firelens-task" || !first[0].(time.Time).Equal(at) {
		t.Errorf("message %+v", message)
	}
	record := second[1].(map[string]any)
	if record["log"] != strings.Repeat("long ", 100) || record["source"] != "stderr" || record["container_name"] != "/web" || record["container_id"] != "task-web" {
		t.Errorf("record %+v", record)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

// TestRouterLinks: a router that puts a link in its socket's place is not followed to it.
func TestRouterLinks(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	t.Chdir(other)
	l, err := net.Listen("unix", "api.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, make := range map[string]func() error{
		"link": func() error { return os.Symlink(filepath.Join(other, "api.sock"), filepath.Join(dir, "fluent.sock")) },
		"file": func() error { return os.WriteFile(filepath.Join(dir, "fluent.sock"), nil, 0o600) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if c, err := dialRouter(context.Background(), dir); err == nil {
			t.Errorf("%s: connected to %s", name, c.RemoteAddr())
		}
		if err := os.Remove(filepath.Join(dir, "fluent.sock")); err != nil {
			t.Fatal(err)
		}
	}
}
