package etcd_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
	"github.com/berthdev/berth/internal/store/storetest"
)

func open(t testing.TB, dir string) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(context.Background(), etcd.Config{Dir: dir, Kinds: store.Schema(),
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
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

func TestSuite(t *testing.T) {
	storetest.Run(t, func(t testing.TB) store.Store { return open(t, t.TempDir()) })
}

func TestReopenedStoreHasEverything(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	const n = 2500 // more than a page
	err := s.Update(context.Background(), func(tx store.Tx) error {
		for i := range n {
			store.Families.Put(tx, &model.Family{Name: fmt.Sprint("f", i), LatestRevision: i})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var before uint64
	s.View(func(r store.Reader) { before = r.Revision() })
	s.Close()
	s = open(t, dir)
	defer s.Close()
	s.View(func(r store.Reader) {
		if before == 0 || r.Revision() < before {
			t.Errorf("revision %d after %d", r.Revision(), before)
		}
		count := 0
		for f := range store.Families.Scan(r, "") {
			if f.Name != fmt.Sprint("f", f.LatestRevision) {
				t.Errorf("%+v", f)
			}
			count++
		}
		if count != n {
			t.Errorf("%d rows after reopening, want %d", count, n)
		}
	})
}

// BenchmarkUpdate measures durable updates beside a loop of write and fdatasync of the same bytes, in the same run.
func BenchmarkUpdate(b *testing.B) {
	const bytes = 1500 // about a task
	value := &model.Family{LatestRevision: 1}
	payload := fmt.Sprintf("%0*d", bytes, 0)
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := open(b, b.TempDir())
			defer s.Close()
			f, err := os.Create(b.TempDir() + "/floor")
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			for b.Loop() {
				const each = 100
				start := time.Now()
				var wg sync.WaitGroup
				for c := range callers {
					wg.Go(func() {
						for i := range each {
							v := *value
							v.Name = fmt.Sprint(payload, c, "-", i)
							if err := s.Update(context.Background(), func(tx store.Tx) error { store.Families.Put(tx, &v); return nil }); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				rate := float64(callers*each) / time.Since(start).Seconds()
				start = time.Now()
				for range each {
					f.WriteString(payload)
					syscall.Fdatasync(int(f.Fd()))
				}
				floor := each / time.Since(start).Seconds()
				b.ReportMetric(rate, "updates/s")
				b.ReportMetric(rate/floor, "updates/fdatasync")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
