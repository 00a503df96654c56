package logstore

import (
	"fmt"

	"github.com/cockroachdb/pebble"
)

// Checkpoint makes dir, which does not exist yet, a copy of the store as it is now, with links where the file system can.
func (s *Store) Checkpoint(dir string) error {
	if err := s.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("copy the log store: %w", err)
	}
	return nil
}
