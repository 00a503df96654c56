package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/berthdev/berth/internal/node/process"
)

// record names a containerd process and what it runs with.
type record struct {
	process.ID
	Fingerprint string `json:"fingerprint"`
}

func recordFile(c Config) string { return filepath.Join(c.State, "process.json") }

func (r record) save(c Config) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(recordFile(c), data)
}

// load returns the record of a containerd that is alive, or false.
func load(c Config) (record, bool) {
	data, err := os.ReadFile(recordFile(c))
	if err != nil {
		return record{}, false
	}
	var r record
	if json.Unmarshal(data, &r) != nil || r.PID <= 1 {
		return record{}, false
	}
	return r, r.Alive()
}
