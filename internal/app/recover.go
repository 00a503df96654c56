package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
)

// keepBackups is how many backups the server itself keeps, one an hour while something changes.
const keepBackups = 2

// backupsDir is where the server's own backups are.
func (in *Instance) backupsDir() string { return in.Path("backups") }

// ownBackups lists them, the newest first: their names are times.
func (in *Instance) ownBackups() []string {
	files, err := filepath.Glob(filepath.Join(in.backupsDir(), "*.berth"))
	if err != nil {
		return nil
	}
	slices.Sort(files)
	slices.Reverse(files)
	return files
}

// backUp writes one of the server's own backups when the state has changed since the last, and removes old ones.
func (s *server) backUp(ctx context.Context) error {
	var revision uint64
	s.store.View(func(r store.Reader) { revision = r.Revision() })
	if revision == s.backedUp {
		return nil
	}
	if err := os.MkdirAll(s.in.backupsDir(), 0o700); err != nil {
		return err
	}
	file := filepath.Join(s.in.backupsDir(), time.Now().UTC().Format("20060102T150405")+".berth")
	err := writeAside(file, func(w io.Writer) error { return writeBackup(w, s.in, s.rows(ctx), BackupWhat{}, nil) })
	if err != nil {
		return err
	}
	s.backedUp = revision
	for _, old := range s.in.ownBackups()[min(keepBackups, len(s.in.ownBackups())):] {
		err = errors.Join(err, os.Remove(old))
	}
	return err
}

// Recover makes a state of what can be read of a damaged one: all of etcd's data file if it can be read, though its log is lost; else the
// newest of the server's own backups; else what can be read of the data file. The broken files are kept aside. It refuses when there is
// nothing. No server may run.
func Recover(ctx context.Context, dir string, out io.Writer) error {
	in, err := LoadInstance(dir)
	if err != nil {
		return err
	}
	release, err := in.lock()
	if err != nil {
		return err
	}
	defer release()
	all, lost, broken := etcd.Salvage(in.Path("etcd"), store.Schema())
	if broken == nil {
		report(out, lost)
		fmt.Fprintln(out, "what was stored within the last tenth of a second before the damage may be missing")
		return in.replace(ctx, all, "what the data file held", out)
	}
	fmt.Fprintf(out, "the data file cannot be read whole: %v\n", broken)
	for _, file := range in.ownBackups() {
		head, saved, err := readFile(file)
		if err != nil {
			fmt.Fprintf(out, "%s: %v\n", file, err)
			continue
		}
		return in.replace(ctx, saved, "the backup that Berth made at "+head.Created.Format(time.RFC3339), out)
	}
	if len(all) == 0 {
		return fmt.Errorf("nothing of %s can be read, and there is no backup in %s: restore one with berth restore FILE, or delete %s to begin anew",
			in.Path("etcd"), in.backupsDir(), in.Path("etcd"))
	}
	report(out, lost)
	return in.replace(ctx, all, "a part of what the data file held (there is no telling what is missing)", out)
}

func report(out io.Writer, lost []string) {
	for _, row := range lost {
		fmt.Fprintln(out, "damaged and left out:", row)
	}
}

func readFile(file string) (backupHead, map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return backupHead{}, nil, err
	}
	defer f.Close()
	return readBackup(f, func(string, io.Reader) error { return nil })
}

// readBackupFile reads a backup and gives what it holds besides the state to take.
func readBackupFile(file string, take func(name string, r io.Reader) error) (backupHead, map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return backupHead{}, nil, err
	}
	defer f.Close()
	return readBackup(f, take)
}
