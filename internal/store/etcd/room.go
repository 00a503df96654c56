package etcd

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/model"
)

// reserve is how much of the disk is left to etcd alone: a segment of its log (64 MiB, allocated when the one before is taken into
// use), a step of its data file (16 MiB) and a snapshot. An etcd that finds no space ends the process.
const reserve = 128 << 20

// room refuses to write when the disk is nearly full. The error is for clients, too: they can do nothing but wait until somebody has
// made room.
func (s *Store) room() error {
	free, err := s.free()
	if err != nil {
		return err
	}
	if free >= reserve {
		return nil
	}
	err = model.Errorf("ServerException", "Berth's disk is full: %d MiB are free where its data is, and it writes only while there are %d; "+
		"free some space. Tasks go on running", free>>20, reserve>>20)
	if time.Since(s.told) > time.Minute { // everybody who writes tries again and again
		s.told = time.Now()
		s.log.Error(err.Error())
	}
	return err
}

// freeOf returns a function that asks for the free space at dir, as root sees it.
func freeOf(dir string) func() (uint64, error) {
	return func() (uint64, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return 0, err
		}
		return st.Bfree * uint64(st.Bsize), nil
	}
}
