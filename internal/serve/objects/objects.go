// Package objects keeps the objects of Berth's small S3: names and metadata are rows, bytes are files below the data directory, synced
// before anything is answered and never changed. It is the backend of gofakes3, which speaks the protocol. What is conditional
// (If-None-Match, If-Match) is decided in the transaction that stores the row, so that one of two writers wins.
package objects

import (
	"context"
	"crypto/md5" // S3's ETag
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rclone/gofakes3"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Objects implements gofakes3.Backend.
type Objects struct {
	store store.Store // of the home region: buckets are of all regions
	dir   string
	now   func() time.Time
}

var (
	_ gofakes3.Backend          = (*Objects)(nil)
	_ gofakes3.MultipartBackend = (*Objects)(nil)
)

// Open opens the objects in dir, making it when it is missing. What an earlier process left of uploads is removed.
func Open(dir string, home store.Store, now func() time.Time) (*Objects, error) {
	o := &Objects{store: home, dir: dir, now: now}
	if err := os.RemoveAll(o.path("uploads")); err != nil {
		return nil, fmt.Errorf("open S3: %w", err)
	}
	for _, d := range []string{"files", "uploads"} {
		if err := os.MkdirAll(o.path(d), 0o700); err != nil {
			return nil, fmt.Errorf("open S3: %w", err)
		}
	}
	return o, nil
}

func (o *Objects) path(elem ...string) string {
	return filepath.Join(append([]string{o.dir}, elem...)...)
}

// file is where a file's bytes are.
func (o *Objects) file(name string) string { return o.path("files", name[:2], name) }

func randomName() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// ListBuckets implements gofakes3.Backend.
func (o *Objects) ListBuckets(context.Context) (all []gofakes3.BucketInfo, _ error) {
	o.store.View(func(r store.Reader) {
		for b := range store.S3Buckets.Scan(r, "") {
			all = append(all, gofakes3.BucketInfo{Name: b.Name, CreationDate: gofakes3.NewContentTime(b.CreatedAt)})
		}
	})
	return all, nil
}

// BucketExists implements gofakes3.Backend.
func (o *Objects) BucketExists(_ context.Context, name string) (ok bool, _ error) {
	o.store.View(func(r store.Reader) { _, ok = store.S3Buckets.Get(r, name) })
	return ok, nil
}

// CreateBucket implements gofakes3.Backend.
func (o *Objects) CreateBucket(ctx context.Context, name string) error {
	return o.store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.S3Buckets.Get(tx, name); ok {
			return gofakes3.ResourceError(gofakes3.ErrBucketAlreadyExists, name)
		}
		store.S3Buckets.Put(tx, &model.S3Bucket{Name: name, CreatedAt: o.now()})
		return nil
	})
}

// DeleteBucket implements gofakes3.Backend.
func (o *Objects) DeleteBucket(ctx context.Context, name string) error {
	return o.store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		if _, ok := store.S3Buckets.Get(tx, name); !ok {
			return gofakes3.BucketNotFound(name)
		}
		for range store.S3Objects.Scan(tx, name+"/") {
			return gofakes3.ResourceError(gofakes3.ErrBucketNotEmpty, name)
		}
		store.S3Buckets.Delete(tx, name)
		return nil
	})
}

// ListBucket implements gofakes3.Backend.
func (o *Objects) ListBucket(ctx context.Context, bucket string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	if ok, _ := o.BucketExists(ctx, bucket); !ok {
		return nil, gofakes3.BucketNotFound(bucket)
	}
	if prefix == nil {
		prefix = &gofakes3.Prefix{}
	}
	start := bucket + "/"
	if prefix.HasPrefix {
		start += prefix.Prefix
	}
	out := gofakes3.NewObjectList()
	o.store.View(func(r store.Reader) {
		var n int64
		last := ""
		for row := range store.S3Objects.Scan(r, start) {
			common := folder(row.Name, prefix.Prefix, prefix.Delimiter)
			if page.HasMarker && row.Name <= page.Marker {
				continue
			}
			if common != "" && (common == last || page.HasMarker && strings.HasPrefix(page.Marker, common)) {
				continue // it is in the list, or was in the one before
			}
			if page.MaxKeys > 0 && n == page.MaxKeys {
				out.IsTruncated = true
				return
			}
			n++
			out.NextMarker = row.Name
			if common != "" {
				last = common
				out.AddPrefix(last)
				out.NextMarker = last
				continue
			}
			out.Add(&gofakes3.Content{Key: row.Name, LastModified: gofakes3.NewContentTime(row.At), ETag: etag(row.MD5), Size: row.Size})
		}
	})
	if !out.IsTruncated {
		out.NextMarker = ""
	}
	return out, nil
}

// folder is the common prefix under which a list shows a name; "" when it shows the name itself.
func folder(name, prefix, delimiter string) string {
	if delimiter == "" {
		return ""
	}
	if i := strings.Index(name[len(prefix):], delimiter); i >= 0 {
		return name[:len(prefix)+i+len(delimiter)]
	}
	return ""
}

func etag(sum []byte) string { return `"` + hex.EncodeToString(sum) + `"` }

// find reads an object's row.
func (o *Objects) find(bucket, name string) (row *model.S3Object, err error) {
	o.store.View(func(r store.Reader) {
		if _, ok := store.S3Buckets.Get(r, bucket); !ok {
			err = gofakes3.BucketNotFound(bucket)
		} else if row, ok = store.S3Objects.Get(r, bucket+"/"+name); !ok {
			err = gofakes3.KeyNotFound(name)
		}
	})
	return row, err
}

// GetObject implements gofakes3.Backend.
func (o *Objects) GetObject(_ context.Context, bucket, name string, asked *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	for try := 0; ; try++ {
		row, err := o.find(bucket, name)
		if err != nil {
			return nil, err
		}
		got := draw(row)
		if got.Range, err = asked.Range(row.Size); err != nil {
			return nil, err
		}
		f, err := os.Open(o.file(row.File))
		if errors.Is(err, fs.ErrNotExist) && try == 0 {
			continue // it was replaced meanwhile
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, gofakes3.ErrorMessage(gofakes3.ErrNoSuchKey, "The bytes of this object are not on this machine: its name was restored from a backup, which holds none.")
		}
		if err != nil {
			return nil, err
		}
		got.Contents = f
		if got.Range != nil {
			got.Contents = section{io.NewSectionReader(f, got.Range.Start, got.Range.Length), f}
		}
		return got, nil
	}
}

type section struct {
	io.Reader
	io.Closer
}

func draw(row *model.S3Object) *gofakes3.Object {
	meta := map[string]string{}
	for k, v := range row.Meta {
		meta[k] = v
	}
	return &gofakes3.Object{Name: row.Name, Metadata: meta, Size: row.Size, Hash: row.MD5, PartSizes: slices.Clone(row.Parts),
		Contents: io.NopCloser(strings.NewReader(""))}
}

// HeadObject implements gofakes3.Backend.
func (o *Objects) HeadObject(_ context.Context, bucket, name string) (*gofakes3.Object, error) {
	row, err := o.find(bucket, name)
	if err != nil {
		return nil, err
	}
	return draw(row), nil
}

// PutObject implements gofakes3.Backend.
func (o *Objects) PutObject(ctx context.Context, bucket, name string, meta map[string]string, input io.Reader, size int64) (out gofakes3.PutObjectResult, err error) {
	if !utf8.ValidString(name) {
		return out, gofakes3.ErrorMessage(gofakes3.ErrInvalidArgument, "The name of an object must be UTF-8")
	}
	row := &model.S3Object{Bucket: bucket, Name: name, Meta: meta}
	if err := o.write(row, input); err != nil {
		return out, err
	}
	if size >= 0 && row.Size != size {
		return out, errors.Join(gofakes3.ErrIncompleteBody, os.Remove(o.file(row.File)))
	}
	return gofakes3.PutObjectResult{ETag: etag(row.MD5)}, o.put(ctx, row)
}

// write makes the file of a row, synced with its folder.
func (o *Objects) write(row *model.S3Object, from io.Reader) error {
	row.File = randomName()
	name := o.file(row.File)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	sum := md5.New()
	n, err := writeFile(name, io.TeeReader(from, sum))
	if err != nil {
		return err
	}
	row.Size, row.MD5 = n, sum.Sum(nil)
	return errors.Join(syncDir(filepath.Dir(name)), syncDir(o.path("files")))
}

func writeFile(name string, from io.Reader) (n int64, err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	if n, err = io.Copy(f, from); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(name) // the copy's error counts
	}
	return n, first(err)
}

// first is the error of a join that has one: gofakes3 knows its own errors by their type.
func first(err error) error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range all.Unwrap() {
			if one != nil {
				return one
			}
		}
	}
	return err
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// put stores a row whose file is there, if the request's conditions are met now, and removes the file of the one that it replaces.
func (o *Objects) put(ctx context.Context, row *model.S3Object) error {
	var old *model.S3Object
	row.At = o.now()
	err := o.store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.S3Buckets.Get(tx, row.Bucket); !ok {
			return gofakes3.BucketNotFound(row.Bucket)
		}
		had := ""
		var exists bool
		if old, exists = store.S3Objects.Get(tx, row.Key()); exists {
			had = hex.EncodeToString(old.MD5)
		}
		if err := gofakes3.CheckWriteConditions(ctx, exists, had); err != nil {
			return err
		}
		store.S3Objects.Put(tx, row)
		return nil
	})
	switch {
	case errors.Is(err, store.ErrUnknown):
		return err // the row may have been stored: Sweep knows
	case err != nil:
		_ = os.Remove(o.file(row.File)) // or Sweep does
		return err
	case old != nil:
		_ = os.Remove(o.file(old.File)) // or Sweep does
	}
	return nil
}

// DeleteObject implements gofakes3.Backend.
func (o *Objects) DeleteObject(ctx context.Context, bucket, name string) (out gofakes3.ObjectDeleteResult, _ error) {
	return out, o.remove(ctx, bucket, name)
}

func (o *Objects) remove(ctx context.Context, bucket string, names ...string) error {
	var gone []string
	err := o.store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		gone = nil
		if _, ok := store.S3Buckets.Get(tx, bucket); !ok {
			return gofakes3.BucketNotFound(bucket)
		}
		for _, name := range names {
			if row, ok := store.S3Objects.Get(tx, bucket+"/"+name); ok {
				gone = append(gone, row.File)
				store.S3Objects.Delete(tx, row.Key())
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, file := range gone {
		_ = os.Remove(o.file(file)) // or Sweep does
	}
	return nil
}

// DeleteMulti implements gofakes3.Backend.
func (o *Objects) DeleteMulti(ctx context.Context, bucket string, names ...string) (out gofakes3.MultiDeleteResult, err error) {
	if err := o.remove(ctx, bucket, names...); err != nil {
		return out, err
	}
	for _, name := range names {
		out.Deleted = append(out.Deleted, gofakes3.ObjectID{Key: name})
	}
	return out, nil
}

// CopyObject implements gofakes3.Backend.
func (o *Objects) CopyObject(ctx context.Context, fromBucket, from, bucket, name string, meta map[string]string) (out gofakes3.CopyObjectResult, err error) {
	source, err := o.GetObject(ctx, fromBucket, from, nil)
	if err != nil {
		return out, err
	}
	defer source.Contents.Close()
	made, err := o.PutObject(ctx, bucket, name, meta, source.Contents, source.Size)
	return gofakes3.CopyObjectResult{ETag: made.ETag, LastModified: gofakes3.NewContentTime(o.now())}, err
}

// Read is the whole of an object of at most limit bytes.
func (o *Objects) Read(ctx context.Context, bucket, name string, limit int64) ([]byte, error) {
	got, err := o.GetObject(ctx, bucket, name, nil)
	if err != nil {
		return nil, err
	}
	defer got.Contents.Close()
	if got.Size > limit {
		return nil, fmt.Errorf("s3://%s/%s has %d bytes; %d are read at most", bucket, name, got.Size, limit)
	}
	return io.ReadAll(got.Contents)
}

// Sweep removes files of before that no row names: a process that ended in the middle of something left them.
func (o *Objects) Sweep(before time.Time) error {
	named := map[string]bool{}
	o.store.View(func(r store.Reader) {
		for row := range store.S3Objects.Scan(r, "") {
			named[row.File] = true
		}
	})
	return filepath.WalkDir(o.path("files"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || named[d.Name()] {
			return err
		}
		if st, err := d.Info(); err != nil || !st.ModTime().Before(before) {
			return nil
		}
		return os.Remove(name)
	})
}
