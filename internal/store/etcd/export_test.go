package etcd

import (
	"log/slog"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// ReadOnly starts etcd on dir, reads every row without decoding it and tells how many bytes there were.
func ReadOnly(t testing.TB, dir string) (bytes int) {
	m, err := run(t.Context(), Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{patience: patience}
	s.member.Store(m)
	for _, prefix := range []string{partRows, tables} {
		runs, failed := make(chan []*mvccpb.KeyValue), make(chan error, 1)
		go func() {
			defer close(runs)
			failed <- (&loader{s: s}).fetch(t.Context(), prefix, runs)
		}()
		for run := range runs {
			for _, kv := range run {
				bytes += len(kv.Value)
			}
		}
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	return bytes
}
