package keys

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Source is where the master key comes from.
type Source struct {
	File       string // a file of 0600, made when the cluster has no master key yet
	Command    string // a program and its arguments, apart by spaces, which prints the key
	Passphrase string // goes before the others
}

// ParseSource reads what --master-key says: file:<path> or command:<program and arguments>; "" is the file that is given.
func ParseSource(text, file, passphrase string) (Source, error) {
	switch kind, rest, _ := strings.Cut(text, ":"); {
	case passphrase != "":
		return Source{Passphrase: passphrase}, nil
	case text == "":
		return Source{File: file}, nil
	case kind == "file" && filepath.IsAbs(rest):
		return Source{File: rest}, nil
	case kind == "command" && strings.TrimSpace(rest) != "":
		return Source{Command: rest}, nil
	}
	return Source{}, fmt.Errorf("--master-key %q: want file:/<path> or command:<program and arguments>", text)
}

// minMaster is how long a master key is at least, bytes.
const minMaster = 16

// Master is the key under which the materials of KMS keys are wrapped. All servers of a cluster have the same.
type Master struct {
	store  store.Store // of the home region
	source Source
	mu     sync.Mutex
	row    *model.MasterKey // that key belongs to
	key    []byte
}

// NewMaster makes a Master over the home region's store. Nothing is read before the key is needed.
func NewMaster(home store.Store, source Source) *Master { return &Master{store: home, source: source} }

// ErrNoMaster says that this server's master key is not there.
var ErrNoMaster = errors.New("this server has no master key, and the cluster has keys under one")

// ErrOtherMaster says that this server's master key is not the cluster's.
var ErrOtherMaster = errors.New("the master key of this server is not the one under which the cluster's keys are wrapped")

// Ensure sees to it that the cluster has a master key and that this server's is it. Only the leader can make one.
func (m *Master) Ensure(ctx context.Context) error {
	_, err := m.wrapping(ctx)
	return err
}

func (m *Master) saved() (row *model.MasterKey) {
	m.store.View(func(r store.Reader) { row, _ = store.MasterKeys.Get(r, model.MasterKeyKey) })
	return row
}

// wrapping is the key that wraps.
func (m *Master) wrapping(ctx context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	row := m.saved()
	if row != nil && m.row != nil && bytes.Equal(row.Check, m.row.Check) {
		return m.key, nil
	}
	raw, err := m.read(ctx, row == nil)
	if err != nil {
		return nil, err
	}
	if row == nil {
		if row, err = m.begin(ctx, raw); err != nil {
			return nil, err
		}
	}
	key, err := m.stretch(raw, row.Salt)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(row.Check, check(key)) {
		return nil, fmt.Errorf("%w: %s", ErrOtherMaster, m.cure())
	}
	m.row, m.key = row, key
	return key, nil
}

func (m *Master) cure() string {
	switch {
	case m.source.Passphrase != "":
		return "give the passphrase that the cluster began with"
	case m.source.Command != "":
		return "the command must print what it printed when the cluster began"
	}
	return "bring the cluster's back as " + m.source.File + ", from another server or a backup"
}

// begin writes down what tells this master key from others, unless somebody has.
func (m *Master) begin(ctx context.Context, raw []byte) (row *model.MasterKey, err error) {
	made := &model.MasterKey{Salt: random(16)}
	key, err := m.stretch(raw, made.Salt)
	if err != nil {
		return nil, err
	}
	made.Check = check(key)
	err = m.store.Update(ctx, func(tx store.Tx) error {
		var ok bool
		if row, ok = store.MasterKeys.Get(tx, model.MasterKeyKey); !ok {
			row = made
			store.MasterKeys.Put(tx, row)
		}
		return nil
	})
	return row, err
}

// stretch makes the wrapping key of what a person may have chosen (a passphrase), or of random bytes.
func (m *Master) stretch(raw, salt []byte) ([]byte, error) {
	if m.source.Passphrase != "" {
		return pbkdf2.Key(sha256.New, string(raw), salt, 600_000, 32)
	}
	return hkdf.Key(sha256.New, raw, salt, "berth master key", 32)
}

func check(key []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("berth master key's check"))
	return h.Sum(nil)
}

// read returns the master key as it comes from its source.
func (m *Master) read(ctx context.Context, first bool) (raw []byte, err error) {
	switch {
	case m.source.Passphrase != "":
		raw = []byte(m.source.Passphrase)
	case m.source.Command != "":
		raw, err = command(ctx, m.source.Command)
	default:
		raw, err = readFile(m.source.File)
		if errors.Is(err, fs.ErrNotExist) && first {
			made := []byte(base64.StdEncoding.EncodeToString(random(32)) + "\n")
			if err = writeFile(m.source.File, made); err == nil {
				raw, err = readFile(m.source.File)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s", ErrNoMaster, m.cure())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the master key: %w", err)
	}
	if raw = bytes.TrimSpace(raw); len(raw) < minMaster {
		return nil, fmt.Errorf("the master key has %d bytes; it must have %d or more", len(raw), minMaster)
	}
	return raw, nil
}

// command runs a program that prints the key. What it says on its standard error is told, what it prints never.
func command(ctx context.Context, line string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeouts.MasterKey)
	defer cancel()
	args := strings.Fields(line)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %.200s", args[0], err, strings.TrimSpace(complaint.String()))
	}
	return out, nil
}

// readFile refuses a file that others may read.
func readFile(name string) ([]byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): run chmod 600 on it", name, st.Mode().Perm())
	}
	return os.ReadFile(name)
}

// writeFile makes the file whole or not at all, and leaves one that is there.
func writeFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

// The file is what servers hand to each other.

// File is what a server gives to another of the cluster that lacks it; nil where each is given the master key by its operator.
func (m *Master) File() ([]byte, error) {
	if m.source.File == "" || m.saved() == nil {
		return nil, nil
	}
	return readFile(m.source.File)
}

// Lacks tells whether this server could have the cluster's master key from another, and does not have it.
func (m *Master) Lacks() bool {
	if m.source.File == "" || m.saved() == nil {
		return false
	}
	err := m.Ensure(context.Background())
	return errors.Is(err, ErrNoMaster) || errors.Is(err, ErrOtherMaster)
}

// Take makes what another server gave this server's master key, if it is the cluster's. A file that was another's is kept beside it.
func (m *Master) Take(data []byte) error {
	row := m.saved()
	if row == nil || m.source.File == "" {
		return nil
	}
	key, err := m.stretch(bytes.TrimSpace(data), row.Salt)
	if err != nil || !hmac.Equal(row.Check, check(key)) {
		return fmt.Errorf("%w, nor is that of the leader", ErrOtherMaster)
	}
	if err := os.Rename(m.source.File, m.source.File+".other"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeFile(m.source.File, data)
}
