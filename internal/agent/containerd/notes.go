package containerd

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// note is what Runtime writes down of a container, because containerd forgets it when the shim dies: that it was started, and
// how it ended. Notes are on tmpfs and mean nothing after a reboot.
type note struct{ path string }

type noted struct {
	Exited     bool      `json:"exited,omitempty"`
	ExitCode   int32     `json:"exitCode,omitempty"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	OOMKilled  bool      `json:"oomKilled,omitempty"`
}

func (r *Runtime) notes(id string) note { return note{filepath.Join(r.c.StateDir, "exits", id)} }

// begun notes that the container's process is about to run. A note of its end is kept.
func (n note) begun() error {
	f, err := os.OpenFile(n.path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func (n note) exited(e noted) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := os.WriteFile(n.path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(n.path+".new", n.path)
}

// read returns what was noted; begun is false when nothing was.
func (n note) read() (e noted, begun bool) {
	data, err := os.ReadFile(n.path)
	if err != nil {
		return noted{}, false
	}
	_ = json.Unmarshal(data, &e) // an empty note says "begun" and no more
	return e, true
}

func (n note) remove() {
	if err := os.Remove(n.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		_ = os.Truncate(n.path, 0)
	}
}
