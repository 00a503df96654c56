package etcd_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
)

func open(t testing.TB, dir string) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(context.Background(), etcd.Config{Dir: dir, Kinds: store.Schema(), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const childEnv = "BERTH_TEST_STORE_CHILD"

// TestMain runs the writer of TestKilledStoreKeepsWhatItAcknowledged when it is asked to.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		write(dir)
		return
	}
	os.Exit(m.Run())
}

// write adds families without end and says of each when it is acknowledged.
func write(dir string) {
	s, err := etcd.Open(context.Background(), etcd.Config{Dir: dir, Kinds: store.Schema(), Log: slog.Default()})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		err := s.Update(context.Background(), func(tx store.Tx) error {
			f, _ := store.Families.Get(tx, "count")
			next := model.Family{Name: "count"}
			if f != nil {
				next = *f
			}
			next.LatestRevision++
			store.Families.Put(tx, &next)
			i = next.LatestRevision
			return nil
		})
		if err != nil {
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

func TestKilledStoreKeepsWhatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		last, kill := 0, time.Time{}
		for lines.Scan() {
			if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
				t.Fatalf("the writer says: %s", lines.Text())
			}
			if kill.IsZero() {
				kill = time.Now().Add(time.Duration(50+70*round) * time.Millisecond)
			}
			if time.Now().After(kill) {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		s := open(t, dir)
		s.View(func(r store.Reader) {
			f, ok := store.Families.Get(r, "count")
			if !ok || f.LatestRevision < last {
				t.Errorf("round %d: %d was acknowledged, the store has %+v", round, last, f)
			}
		})
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
