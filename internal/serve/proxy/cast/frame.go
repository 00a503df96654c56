// Package cast carries the routing table from a server to the proxies of machines without one, and back what they see: one connection a
// machine on the cluster port, apart from its session. Who is cut off keeps the table; who comes again is told all of it, and tells all it
// sees.
package cast

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/timeouts"
)

// Protocol (ALPN) is that of the cluster port.
const Protocol = "berth-table"

// message is one frame: its length in four bytes, and JSON. Without any field it is a sign of life.
type message struct {
	Delta    *proxy.Delta         `json:",omitempty"` // a change of the table; with More its next part follows
	More     bool                 `json:",omitempty"`
	Health   []model.TargetHealth `json:",omitempty"`
	Problems map[string]string    `json:",omitempty"` // by listener
}

// maxFrame bounds a frame, bytes.
const maxFrame = 16 << 20

func send(c net.Conn, m *message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(data) > maxFrame {
		return fmt.Errorf("a part of the routing table has %d bytes", len(data))
	}
	if err := c.SetWriteDeadline(time.Now().Add(timeouts.TableSend)); err != nil {
		return err
	}
	_, err = c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

// receive waits for the next frame for so long.
func receive(c net.Conn, r io.Reader, silence time.Duration) (*message, error) {
	if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes is too long", n)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	m := &message{}
	return m, json.Unmarshal(data, m)
}

// parts cuts a change into messages of bearable size.
func parts(d proxy.Delta) (all []*message) {
	for _, part := range d.Parts() {
		all = append(all, &message{Delta: &part, More: true})
	}
	all[len(all)-1].More = false
	return all
}
