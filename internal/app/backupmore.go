package app

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/serve/logstore"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
)

// A backup with images or logs has more after its rows: each thing's name, its content in pieces and a length of zero; then a length of zero
// and the number of things. Names are blob:<digest> and logs:<folder>/<file>.
const backupFormatMore = "berth-backup-2"

// pieces is how much of a thing is in one chunk, bytes.
const pieces = 1 << 20

// BackupWhat is what a backup holds besides the state.
type BackupWhat struct {
	Blobs bool `json:"blobs,omitempty"` // the images pushed to the registry
	Logs  bool `json:"logs,omitempty"`  // the log events of this server
}

func (b BackupWhat) more() bool { return b.Blobs || b.Logs }

// things yields what is to be written after the rows.
type things func(yield func(name string, r io.Reader) error) error

// writeThings ends a backup of the second format.
func writeThings(w io.Writer, each things) error {
	n := uint64(0)
	buf := make([]byte, pieces)
	err := each(func(name string, r io.Reader) error {
		n++
		if err := writeChunk(w, []byte(name)); err != nil {
			return err
		}
		for {
			k, err := io.ReadFull(r, buf)
			if k > 0 {
				if err := writeChunk(w, buf[:k]); err != nil {
					return err
				}
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return writeChunk(w, nil)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	})
	if err != nil {
		return err
	}
	_, err = w.Write(binary.AppendUvarint([]byte{0}, n))
	return err
}

// readThings reads to the end of a backup of the second format. take gets each thing and reads what it wants of it.
func readThings(in *bufio.Reader, take func(name string, r io.Reader) error) error {
	for n := uint64(0); ; n++ {
		name, err := readChunk(in)
		if err != nil {
			return errCut(err)
		}
		if len(name) == 0 {
			if said, err := binary.ReadUvarint(in); err != nil || said != n {
				return errCut(err)
			}
			return nil
		}
		r := &thing{in: in}
		if err := take(string(name), r); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return errCut(err)
		}
	}
}

func errCut(err error) error {
	if err == nil {
		return errors.New("it is damaged or was cut")
	}
	return fmt.Errorf("it is damaged or was cut: %w", err)
}

// thing reads the pieces of one.
type thing struct {
	in   *bufio.Reader
	rest []byte
	end  bool
}

// Read implements io.Reader.
func (t *thing) Read(b []byte) (int, error) {
	if len(t.rest) == 0 && !t.end {
		data, err := readChunk(t.in)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
		}
		t.rest, t.end = data, len(data) == 0
	}
	if t.end {
		return 0, io.EOF
	}
	n := copy(b, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// blobThings are the registry's blobs: what the rows name, wherever it is, and what else is on this machine.
func blobThings(ctx context.Context, from registry.Storage, local *registry.Blobs, in store.Store) things {
	return func(yield func(string, io.Reader) error) error {
		named := map[string]bool{}
		in.View(func(r store.Reader) {
			for row := range store.RepositoryBlobs.Scan(r, "") {
				named[row.Digest] = true
			}
			for row := range store.SealedBlobs.Scan(r, "") {
				named[row.Sealed] = true
			}
		})
		if err := local.Each(func(digest string) error { named[digest] = true; return nil }); err != nil {
			return err
		}
		all := make([]string, 0, len(named))
		for digest := range named {
			all = append(all, digest)
		}
		slices.Sort(all)
		for _, digest := range all {
			c, err := from.Open(ctx, digest)
			if errors.Is(err, fs.ErrNotExist) {
				continue // it was collected meanwhile, or is nowhere any more, which pulls say
			}
			if err != nil {
				return fmt.Errorf("blob %s: %w", digest, err)
			}
			err = yield("blob:"+digest, c)
			if err = errors.Join(err, c.Close()); err != nil {
				return err
			}
		}
		return nil
	}
}

// logThings are the files of log stores as they are at one moment, by the names of their folders. They are gathered below dir.
func logThings(stores map[string]*logstore.Store, dir string) things {
	return func(yield func(string, io.Reader) error) (err error) {
		tmp, err := os.MkdirTemp(dir, "backup.*")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
		for folder, s := range stores {
			at := filepath.Join(tmp, folder)
			if err := s.Checkpoint(at); err != nil {
				return fmt.Errorf("the logs: %w", err)
			}
			files, err := os.ReadDir(at)
			if err != nil {
				return err
			}
			for _, file := range files {
				f, err := os.Open(filepath.Join(at, file.Name()))
				if err != nil {
					return err
				}
				err = yield("logs:"+folder+"/"+file.Name(), f)
				if err = errors.Join(err, f.Close()); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func both(all ...things) things {
	return func(yield func(string, io.Reader) error) error {
		for _, t := range all {
			if err := t(yield); err != nil {
				return err
			}
		}
		return nil
	}
}

// more is what a running server puts into a backup besides the state.
func (s *server) more(ctx context.Context, what BackupWhat) things {
	var all []things
	if what.Blobs {
		all = append(all, blobThings(ctx, s.blobs, s.local, s.store))
	}
	if what.Logs {
		stores := map[string]*logstore.Store{"logs": s.logs}
		s.regions.each(func(r *region) { stores["logs."+r.scope.Region] = r.logs })
		all = append(all, logThings(stores, s.in.dir))
	}
	return both(all...)
}

// logFolder tells whether a backup's logs may be put into a folder of that name.
func logFolder(name string) bool {
	region, ok := strings.CutPrefix(name, "logs")
	return ok && (region == "" || regionPattern.MatchString(strings.TrimPrefix(region, ".")) && region[0] == '.')
}

// unpack puts a thing of a backup into the data directory. Logs go to folders whose names end with aside.
func (in *Instance) unpack(ctx context.Context, blobs *registry.Blobs, name, aside string, r io.Reader) error {
	kind, what, _ := strings.Cut(name, ":")
	switch kind {
	case "blob":
		u, err := blobs.Upload(ctx, "")
		if err != nil {
			return err
		}
		if _, err = u.Write(r, -1); err == nil {
			_, err = u.Finish(what)
		}
		if err != nil {
			return errors.Join(err, u.Cancel())
		}
		return nil
	case "logs":
		folder, file, ok := strings.Cut(what, "/")
		if !ok || !logFolder(folder) || file != filepath.Base(file) || !filepath.IsLocal(file) {
			return errors.New("no such file belongs to a log store")
		}
		to := in.Path(folder + aside)
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		return writeAside(filepath.Join(to, file), func(w io.Writer) error {
			_, err := io.Copy(w, r)
			return err
		})
	}
	return errors.New("this version does not know what that is")
}

// restoreMore puts what a backup of the second format holds besides the state in its place; logs that were there are kept aside.
func (in *Instance) restoreMore(ctx context.Context, file string, out io.Writer) error {
	aside := ".restored"
	blobs, err := registry.OpenBlobs(in.Path("registry"))
	if err != nil {
		return err
	}
	images, folders := 0, map[string]bool{}
	if _, _, err := readBackupFile(file, func(name string, r io.Reader) error {
		if folder, ok := strings.CutPrefix(name, "logs:"); ok {
			folder, _, _ = strings.Cut(folder, "/")
			if logFolder(folder) && !folders[folder] {
				folders[folder] = true
				if err := os.RemoveAll(in.Path(folder + aside)); err != nil { // of a restore that was interrupted
					return err
				}
			}
		} else {
			images++
		}
		return in.unpack(ctx, blobs, name, aside, r)
	}); err != nil {
		return err
	}
	stamp := time.Now().UTC().Format(".before-20060102T150405")
	for folder := range folders {
		if err := os.Rename(in.Path(folder), in.Path(folder+stamp)); err == nil {
			fmt.Fprintf(out, "the logs that were there are kept in %s; delete them when nobody needs them\n", in.Path(folder+stamp))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Rename(in.Path(folder+aside), in.Path(folder)); err != nil {
			return err
		}
	}
	if images > 0 {
		fmt.Fprintf(out, "%d blobs of images are in place\n", images)
	}
	return nil
}
