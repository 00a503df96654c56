// Package note is what is written down of a container's run outside of containerd, which forgets a container's end when it was
// not running at that moment, or when the shim dies. The runtime notes the start and what it hears of the end; the shim notes the
// end before it lets containerd forget it. Notes are on tmpfs: they mean nothing after a reboot.
package note

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/berthdev/berth/internal/node/process"
)

// Annotation is the key under which a container's OCI spec names its note's file.
const Annotation = "berth.dev/note"

// Note is a container's run.
type Note struct {
	// Process is the container's first, where it was known when the container was begun.
	Process    process.ID `json:"process,omitzero"`
	Exited     bool       `json:"exited,omitempty"` // false: it was started, and nothing is known of its end
	ExitCode   int32      `json:"exitCode,omitempty"`
	FinishedAt time.Time  `json:"finishedAt,omitzero"`
	OOMKilled  bool       `json:"oomKilled,omitempty"`
}

// Begin notes that the container is about to run as a process. What is noted already is kept.
func Begin(path string, p process.ID) error {
	data, err := json.Marshal(Note{Process: p})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// End notes how the container ended, unless it was never begun or is deleted already: nobody would remove the note. The shim and
// the runtime may do so at the same time, with the same content.
func End(path string, n Note) error {
	n.Exited = true
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// Read returns a note. begun is false when there is none.
func Read(path string) (n Note, begun bool) {
	f, err := os.Open(path)
	if err != nil {
		return Note{}, false
	}
	defer f.Close()
	// An empty or half-written note says "begun" and no more; what follows the first value is of another writer.
	if json.NewDecoder(io.LimitReader(f, 4096)).Decode(&n) != nil {
		return Note{}, true
	}
	return n, true
}

// Remove removes a note; a missing one is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
