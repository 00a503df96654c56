// Package embedded carries runc and the containerd shim inside the berth binary and unpacks them to disk.
package embedded

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// The file names of the programs, in the binary, on disk and in PATH.
const (
	RuncName = "runc"
	ShimName = "containerd-shim-runc-v2"
)

//go:embed all:bin
var files embed.FS

// Binaries are the absolute paths of the programs that containerd starts containers with.
type Binaries struct {
	Runc, Shim string
	// Init is the program that runs as a container's first process where initProcessEnabled asks for one: the shim under
	// another name. "" when the programs come from PATH.
	Init string
	// Embedded tells that they came out of this binary rather than from PATH.
	Embedded bool
}

// ErrMissing says that the programs are neither embedded nor in PATH.
var ErrMissing = errors.New("this berth was built without runc and its shim, and PATH lacks them; build it with: make build")

// Unpack writes the programs to a folder below dir that is named after their content, so that a newer berth never replaces
// a file that a running container uses, and returns where they are. What was unpacked before is used again. A berth built
// without them uses those in PATH; with neither the error is ErrMissing.
func Unpack(dir string) (Binaries, error) { return unpack(files, dir, exec.LookPath) }

// Find tells whether the programs are embedded, without unpacking them. The error is ErrMissing when they are nowhere.
func Find() (inside bool, err error) {
	if holds(files) {
		return true, nil
	}
	_, err = lookUp(exec.LookPath)
	return false, err
}

func unpack(from fs.FS, dir string, look func(string) (string, error)) (Binaries, error) {
	if !holds(from) {
		return lookUp(look)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, err
	}
	// Hashing maps 24 MB of this binary into memory, so a binary that was asked before is recognised by its file.
	stamp := filepath.Join(dir, "of-"+self())
	version, err := os.ReadFile(stamp)
	if known := filepath.Join(dir, string(version)); err == nil && len(version) == 16 && installed(from, known) {
		return at(known), nil
	}
	sum, err := contentHash(from)
	if err != nil {
		return Binaries{}, err
	}
	target := filepath.Join(dir, sum)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return Binaries{}, fmt.Errorf("unpack runc and its shim: %w", err)
	}
	for _, name := range []string{RuncName, ShimName} {
		if err := install(from, target, name); err != nil {
			return Binaries{}, fmt.Errorf("unpack %s: %w", name, err)
		}
	}
	if err := replace(stamp, strings.NewReader(sum), 0o600); err != nil {
		return Binaries{}, fmt.Errorf("unpack runc and its shim: %w", err)
	}
	return at(target), nil
}

func at(dir string) Binaries {
	shim := filepath.Join(dir, ShimName)
	return Binaries{Runc: filepath.Join(dir, RuncName), Shim: shim, Init: shim, Embedded: true}
}

func lookUp(look func(string) (string, error)) (Binaries, error) {
	runc, err := look(RuncName)
	shim, err2 := look(ShimName)
	if err := errors.Join(err, err2); err != nil {
		return Binaries{}, fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	runc, err = filepath.Abs(runc)
	shim, err2 = filepath.Abs(shim)
	return Binaries{Runc: runc, Shim: shim}, errors.Join(err, err2)
}

func holds(from fs.FS) bool {
	for _, name := range []string{RuncName, ShimName} {
		if info, err := fs.Stat(from, "bin/"+name); err != nil || info.Size() == 0 {
			return false
		}
	}
	return true
}

// installed tells whether dir holds both programs in full: install writes each file in one step.
func installed(from fs.FS, dir string) bool {
	for _, name := range []string{RuncName, ShimName} {
		want, err := fs.Stat(from, "bin/"+name)
		got, err2 := os.Stat(filepath.Join(dir, name))
		if err != nil || err2 != nil || want.Size() != got.Size() || got.Mode().Perm() != 0o755 {
			return false
		}
	}
	return true
}

func contentHash(from fs.FS) (string, error) {
	h := sha256.New()
	for _, name := range []string{RuncName, ShimName} {
		f, err := from.Open("bin/" + name)
		if err != nil {
			return "", err
		}
		n, err := io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", fmt.Errorf("read embedded %s: %w", name, err)
		}
		fmt.Fprintf(h, "\n%s %d\n", name, n)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

func install(from fs.FS, dir, name string) error {
	f, err := from.Open("bin/" + name)
	if err != nil {
		return err
	}
	defer f.Close()
	return replace(filepath.Join(dir, name), f, 0o755)
}

// replace writes a file so that its path always has the old or the whole new content.
func replace(path string, from io.Reader, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = io.Copy(tmp, from)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// self names this program's file: a rebuilt one has another name.
func self() string {
	id := "unknown"
	if exe, err := os.Executable(); err == nil {
		if info, err := os.Stat(exe); err == nil {
			id = fmt.Sprint(exe, info.Size(), info.ModTime().UnixNano())
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				id += fmt.Sprint(" ", st.Dev, st.Ino)
			}
		}
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])[:16]
}
