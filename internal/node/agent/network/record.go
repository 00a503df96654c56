package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/node/agent"
)

// record is what one network was given. It is written before anything is made and removed after everything is gone, so that a
// crash at any point leaves nothing that nobody knows of.
type record struct {
	ID     string              `json:"id"`
	TaskID string              `json:"taskId"`
	Mode   types.NetworkMode   `json:"mode"`
	Addr   netip.Addr          `json:"addr,omitzero"`
	Ports  []agent.PortMapping `json:"ports,omitempty"`
	// Done says that everything was made.
	Done bool `json:"done"`

	leaving bool // it is being torn down
}

func (n *Network) recordDir() string { return filepath.Join(n.c.RunDir, "networks") }

func (n *Network) recordFile(id string) string { return filepath.Join(n.recordDir(), recordName(id)) }

func (n *Network) readRecords() error {
	for _, dir := range []string{n.recordDir(), n.netnsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("network: %w", err)
		}
	}
	entries, err := os.ReadDir(n.recordDir())
	if err != nil {
		return fmt.Errorf("network: read records: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		path := filepath.Join(n.recordDir(), e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("network: read records: %w", err)
		}
		var r record
		if err := json.Unmarshal(data, &r); err != nil || r.ID == "" {
			n.log.Warn("a network's record cannot be read and is dropped", "file", path, "error", err)
			_ = os.Remove(path)
			continue
		}
		n.records[r.ID] = &r
		if r.Addr.IsValid() {
			n.byAddr[r.Addr] = r.ID // of which block, chooseAddresses counts
		}
	}
	if data, err := os.ReadFile(n.lastFile()); err == nil {
		if a, err := netip.ParseAddr(strings.TrimSpace(string(data))); err == nil {
			n.last = a
		}
	}
	return nil
}

// recorded are the networks that are not being torn down.
func (n *Network) recorded() []*record {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*record, 0, len(n.records))
	for _, r := range n.records {
		if !r.leaving {
			all = append(all, r)
		}
	}
	return all
}

func (n *Network) save(r *record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(n.recordFile(r.ID), data)
}

func (n *Network) drop(id string) error {
	if err := os.Remove(n.recordFile(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.records[id]; r != nil && r.Addr.IsValid() {
		n.vacate(r.Addr)
	}
	delete(n.records, id)
	return nil
}

// lastFile remembers where the search for a free address goes on.
func (n *Network) lastFile() string { return filepath.Join(n.recordDir(), "last") }
