// Package worker reads the layers of an image and lists the packages in it. It runs in a process of its own, since layers come from
// strangers: what it reads is bounded, and what breaks it breaks nothing else. The parsers are Berth's own: osv-scalibr's would make
// the program larger by half.
package worker

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/berthdev/berth/internal/serve/scan"
)

// The bounds of what is read of one image.
const (
	maxBytes = 16 << 30  // of unpacked layers
	maxFiles = 2_000_000 // in all layers
	maxFile  = 96 << 20  // of a file that is parsed: it is in memory
	maxFound = 100_000   // packages
	maxFrame = 1 << 16   // of a header
)

// Layer begins each layer on the worker's input; its bytes follow.
type Layer struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// ErrTooLarge says that an image is larger than what is read of one.
var ErrTooLarge = errors.New("the image is too large to be scanned")

// Run reads layers, the lowest first, each a line of JSON and so many bytes, and writes the inventory.
func Run(in io.Reader, out io.Writer) error {
	r := bufio.NewReaderSize(in, maxFrame)
	s := &state{files: map[string]found{}}
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		var l Layer
		if err != nil || json.Unmarshal(line, &l) != nil || l.Size < 0 {
			return fmt.Errorf("the worker's input is broken: %w", err)
		}
		layer := io.LimitReader(r, l.Size)
		if err := s.layer(layer, l.Digest); err != nil {
			return fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		if _, err := io.Copy(io.Discard, layer); err != nil { // what follows the archive
			return err
		}
	}
	inv, err := s.inventory()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(inv)
}

// state is what the layers so far have, by file.
type state struct {
	bytes int64
	count int
	files map[string]found
}

// found is what one file says.
type found struct {
	layer    string
	packages []scan.Package
	release  map[string]string // of os-release
	unread   bool
}

func unpack(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	magic, _ := b.Peek(4)
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		return gzip.NewReader(b)
	case len(magic) == 4 && string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z, nil
	}
	return b, nil
}

// counted fails when too much is read of an image.
type counted struct {
	r io.Reader
	n *int64
}

// Read implements io.Reader.
func (c counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if *c.n += int64(n); *c.n > maxBytes {
		return n, ErrTooLarge
	}
	return n, err
}

func (s *state) layer(r io.Reader, digest string) error {
	plain, err := unpack(r)
	if err != nil {
		return err
	}
	archive := tar.NewReader(counted{plain, &s.bytes})
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if s.count++; s.count > maxFiles {
			return ErrTooLarge
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		dir, base := path.Split(name)
		if base == ".wh..wh..opq" {
			s.remove(strings.TrimSuffix(dir, "/"), false)
			continue
		}
		if gone, ok := strings.CutPrefix(base, ".wh."); ok {
			s.remove(dir+gone, true)
			continue
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		delete(s.files, name)
		if err := s.file(name, digest, h.Size, h.FileInfo().Mode().Perm()&0o111 != 0, archive); err != nil {
			return err
		}
	}
}

// remove forgets a file or what is below it.
func (s *state) remove(name string, itself bool) {
	for f := range s.files {
		if itself && f == name || strings.HasPrefix(f, name+"/") {
			delete(s.files, f)
		}
	}
}

// file parses a file that may say what is installed. What cannot be parsed has no packages: it is the image's fault alone.
func (s *state) file(name, digest string, size int64, executable bool, r io.Reader) error {
	parse := parserOf(name, executable)
	if parse == nil {
		return nil
	}
	f := found{layer: digest}
	if size > maxFile {
		f.unread = true
	} else {
		data, err := io.ReadAll(io.LimitReader(r, size))
		if err != nil {
			return err
		}
		parse(data, &f)
	}
	for i := range f.packages {
		f.packages[i].Path, f.packages[i].Layer = name, digest
	}
	if len(f.packages) > 0 || f.release != nil || f.unread {
		s.files[name] = f
	}
	return nil
}

// inventory sums up what is left of all layers.
func (s *state) inventory() (*scan.Inventory, error) {
	inv := &scan.Inventory{Packages: []scan.Package{}}
	release := s.files["etc/os-release"].release
	if release == nil {
		release = s.files["usr/lib/os-release"].release
	}
	inv.Distribution = strings.TrimSpace(release["ID"] + " " + release["VERSION_ID"])
	for name, f := range s.files {
		if f.unread {
			inv.Unread = append(inv.Unread, name)
		}
		for _, p := range f.packages {
			if p.OS() {
				p.Ecosystem = ecosystemOf(release, p.Ecosystem)
			}
			inv.Packages = append(inv.Packages, p)
		}
	}
	if len(inv.Packages) > maxFound {
		return nil, ErrTooLarge
	}
	slices.Sort(inv.Unread)
	slices.SortFunc(inv.Packages, func(a, b scan.Package) int {
		return strings.Compare(a.Ecosystem+"\x00"+a.Name+"\x00"+a.Version+"\x00"+a.Path+"\x00"+a.Binary, b.Ecosystem+"\x00"+b.Name+"\x00"+b.Version+"\x00"+b.Path+"\x00"+b.Binary)
	})
	return inv, nil
}

// ecosystemOf is how OSV names a distribution's release.
func ecosystemOf(release map[string]string, family string) string {
	id, version := release["ID"], release["VERSION_ID"]
	switch {
	case id == "ubuntu":
		return "Ubuntu:" + version
	case family == "Alpine":
		if parts := strings.SplitN(version, ".", 3); len(parts) > 1 {
			version = parts[0] + "." + parts[1]
		}
		return "Alpine:v" + version
	}
	major, _, _ := strings.Cut(version, ".")
	return family + ":" + major
}
