package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/berthdev/berth/internal/api/iam"
)

// said is where Run says that it answers; the first line closes up.
type said struct {
	up   chan struct{}
	done bool
}

func (s *said) Write(p []byte) (int, error) {
	if !s.done {
		s.done = true
		close(s.up)
	}
	return len(p), nil
}

// tryUp runs a Berth without containers on dir until stop is called. The error is that of a start that failed.
func tryUp(t *testing.T, dir string) (listen string, stop func(), err error) {
	t.Helper()
	if in, err := LoadInstance(dir); err == nil {
		listen = in.Listen
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listen = l.Addr().String()
		l.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	out, ended := &said{up: make(chan struct{})}, make(chan error, 1)
	go func() { ended <- Run(ctx, Config{DataDir: dir, Listen: listen, Runtime: "fake", Version: "test"}, out) }()
	select {
	case <-out.up:
	case err := <-ended:
		cancel()
		return "", nil, err
	}
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return listen, stop, nil
}

func up(t *testing.T, dir string) (*Instance, func(region string) *ecs.Client, func()) {
	t.Helper()
	listen, stop, err := tryUp(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	in, err := LoadInstance(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, secret, err := iam.ReadRoot(in.RootKey())
	if err != nil {
		t.Fatal(err)
	}
	return in, func(region string) *ecs.Client {
		return ecs.New(ecs.Options{Region: region, BaseEndpoint: aws.String("http://" + listen),
			Credentials: credentials.NewStaticCredentialsProvider(id, secret, "")})
	}, stop
}

func clusters(t *testing.T, c *ecs.Client) []string {
	t.Helper()
	out, err := c.ListClusters(t.Context(), &ecs.ListClustersInput{})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out.ClusterArns)
	return out.ClusterArns
}

func create(t *testing.T, c *ecs.Client, name string) {
	t.Helper()
	if _, err := c.CreateCluster(t.Context(), &ecs.CreateClusterInput{ClusterName: &name}); err != nil {
		t.Fatal(err)
	}
}

// TestBackups: a backup of a running or a stopped Berth, restored elsewhere or over what came later, is that Berth with its keys.
func TestBackups(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "b")
	in, client, stop := up(t, dir)
	create(t, client("us-east-1"), "kept")
	before := clusters(t, client("us-east-1"))
	if err := Backup(t.Context(), dir, file, BackupWhat{}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup has mode %v, %v", info.Mode(), err)
	}
	if err := Restore(t.Context(), dir, file, io.Discard); err == nil || !strings.Contains(err.Error(), "runs") {
		t.Errorf("restored under a running server: %v", err)
	}
	create(t, client("us-east-1"), "later")
	stop()
	stopped := file + "2"
	if err := Backup(t.Context(), dir, stopped, BackupWhat{}, io.Discard); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		dir, file string
		clusters  int
	}{"over what came later": {dir, file, len(before)}, "elsewhere": {filepath.Join(t.TempDir(), "new"), stopped, len(before) + 1}} {
		if err := Restore(t.Context(), c.dir, c.file, io.Discard); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		again, client, stop := up(t, c.dir)
		if got := clusters(t, client("us-east-1")); len(got) != c.clusters || again.ID != in.ID {
			t.Errorf("%s: %s has %v", what, again.ID, got)
		}
		stop()
	}
	other := t.TempDir()
	_, _, stop = up(t, other)
	stop()
	if err := Restore(t.Context(), other, file, io.Discard); err == nil || !strings.Contains(err.Error(), "another Berth") {
		t.Errorf("restored over another Berth: %v", err)
	}
	for at, data := range map[string]func([]byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)-20] },
		"changed": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"empty":   func([]byte) []byte { return nil },
	} {
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bad := file + at
		if err := os.WriteFile(bad, data(whole), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Restore(t.Context(), dir, bad, io.Discard); err == nil {
			t.Errorf("a backup that was %s was restored", at)
		}
	}
}

// TestAFailedStartIsOneSentence: whatever a server does not find as it should be, nothing panics and the sentence names the file.
func TestAFailedStartIsOneSentence(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir string) error
		names []string
	}{
		"key":  {func(dir string) error { return os.WriteFile(filepath.Join(dir, "root-key.json"), []byte("{"), 0o600) }, []string{"root-key.json"}},
		"mode": {func(dir string) error { return os.Chmod(filepath.Join(dir, "root-key.json"), 0o644) }, []string{"root-key.json", "chmod"}},
		"log":  {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "etcd/data/member/wal")) }, []string{"etcd/data/member", "berth recover"}},
		"data": {func(dir string) error { return os.Truncate(filepath.Join(dir, "etcd/data/member/snap/db"), 9000) }, []string{"db", "berth recover"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, _, stop := up(t, dir)
			stop()
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			_, stop, err := tryUp(t, dir)
			if err == nil {
				stop()
				t.Fatal("it started")
			}
			for _, part := range c.names {
				if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%q does not say %s", err, part)
				}
			}
		})
	}
}

// TestRecover: a lost log costs nothing, a lost data file what came after the server's last own backup, and nothing at all is refused.
func TestRecover(t *testing.T) {
	dir := t.TempDir()
	_, client, stop := up(t, dir)
	create(t, client("us-east-1"), "kept")
	want := clusters(t, client("us-east-1"))
	stop()
	if err := os.RemoveAll(filepath.Join(dir, "etcd/data/member/wal")); err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		var out bytes.Buffer
		if err := Recover(t.Context(), dir, &out); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		_, client, stop := up(t, dir)
		defer stop()
		if got := clusters(t, client("us-east-1")); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v; said %s", what, got, want, out.String())
		}
	}
	check("the log is lost")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "backups"), 0o700),
		Backup(t.Context(), dir, filepath.Join(dir, "backups", "20260101T000000.berth"), BackupWhat{}, io.Discard),
		os.Remove(filepath.Join(dir, "etcd/data/member/snap/db"))); err != nil {
		t.Fatal(err)
	}
	check("the data is lost")
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "backups")), os.RemoveAll(filepath.Join(dir, "etcd/data"))); err != nil {
		t.Fatal(err)
	}
	if err := Recover(t.Context(), dir, io.Discard); err == nil || !strings.Contains(err.Error(), "no backup") {
		t.Errorf("recovered from nothing: %v", err)
	}
}
