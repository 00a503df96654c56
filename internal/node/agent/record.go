package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// record is what an agent must remember of a task to take it over from a killed one. Everything else is in the assignment
// and in the runtime.
type record struct {
	Observed      model.Observed
	CredentialsID string       `json:",omitempty"`
	Network       *NetworkInfo `json:",omitempty"` // of the task (awsvpc)
	Containers    map[string]*containerRecord
	// LogsKept: the task is gone, and this folder stays only for its json-file logs.
	LogsKept bool `json:",omitempty"`
}

// containerRecord is a container's part of a record.
type containerRecord struct {
	Run      string `json:",omitempty"` // of its current or last run
	Image    Image
	Network  *NetworkInfo `json:",omitempty"` // of the container (bridge, none)
	StopAt   time.Time    // when the stop signal was first sent
	Restarts int          `json:",omitempty"` // by its restart policy
	GPUs     []string     `json:",omitempty"` // that it has, by their numbers
}

const (
	recordFile     = "state.json"
	assignmentFile = "assignment.json"
)

// saveRecord replaces the record in dir.
func saveRecord(dir string, data []byte) error { return saveFile(dir, recordFile, data) }

// saveFile replaces a file in dir. The file is whole at every moment as long as the machine stays up; it is not synced,
// because a machine that goes down takes the containers with it and the record with them.
func saveFile(dir, name string, data []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("task record: %w", err)
	}
	tmp := filepath.Join(dir, name+".new")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("task record: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("task record: %w", err)
	}
	return nil
}

func (r *record) save(dir string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("task record: %w", err)
	}
	return saveRecord(dir, data)
}

// loadRecord reads the record in dir. The error is fs.ErrNotExist when there is none.
func loadRecord(dir string) (*record, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("task record %s: %w", dir, err)
	}
	return r, nil
}

// loadAssignment reads what the agent was last told of the task in dir.
func loadAssignment(dir string) (model.Assignment, error) {
	var as model.Assignment
	data, err := os.ReadFile(filepath.Join(dir, assignmentFile))
	if err != nil {
		return as, err
	}
	if err := model.DecodeJSON(data, &as); err != nil {
		return as, fmt.Errorf("assignment %s: %w", dir, err)
	}
	if as.Task == nil || as.Task.ID != filepath.Base(dir) {
		return as, fmt.Errorf("assignment %s: it is not of that task", dir)
	}
	return as, nil
}

// safeName tells whether s may be the name of a file: it comes from outside.
func safeName(s string) bool {
	return s != "" && len(s) <= 255 && s != "." && s != ".." && !strings.ContainsAny(s, "/\x00")
}
