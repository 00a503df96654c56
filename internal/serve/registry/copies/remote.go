package copies

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/timeouts"
)

// call makes a request of another server. What it refuses is an error of this package's, or an fs.ErrNotExist.
func call(ctx context.Context, to Server, method, path string, body io.Reader, length int64) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://server"+Path+path, body)
	if err != nil {
		return nil, err
	}
	r.ContentLength = length
	answer, err := to.Client.Do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode < 300 {
		return answer, nil
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	for status, err := range refusals {
		if answer.StatusCode == status {
			return nil, err
		}
	}
	return nil, fmt.Errorf("server %s answered %s: %s", to.ID, answer.Status, bytes.TrimSpace(said))
}

// refusals are the errors that have a status of their own.
var refusals = map[int]error{http.StatusNotFound: fs.ErrNotExist, http.StatusGone: registry.ErrUploadUnknown,
	http.StatusRequestedRangeNotSatisfiable: registry.ErrRange, http.StatusConflict: registry.ErrMismatch, http.StatusUnprocessableEntity: registry.ErrDigest}

func statusOf(err error) int {
	for status, refusal := range refusals {
		if errors.Is(err, refusal) {
			return status
		}
	}
	return http.StatusInternalServerError
}

// stat asks another server for a blob's size.
func stat(ctx context.Context, at Server, digest string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, timeouts.BlobAsk)
	defer cancel()
	answer, err := call(ctx, at, http.MethodHead, "blobs/"+digest, nil, 0)
	if err != nil {
		return 0, err
	}
	answer.Body.Close()
	return answer.ContentLength, nil
}

// get reads a blob of another server; ctx bounds the reading too.
func get(ctx context.Context, from Server, digest string) (io.ReadCloser, error) {
	answer, err := call(ctx, from, http.MethodGet, "blobs/"+digest, nil, 0)
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// send copies a blob of this server to another.
func (s *Copies) send(ctx context.Context, to Server, digest string) error {
	c, err := s.c.Local.Open(ctx, digest)
	if err != nil {
		return err
	}
	defer c.Close()
	for try := 1; ; try++ {
		err := s.put(ctx, to, digest, c)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, registry.ErrMismatch): // it is not what it was when it arrived
			return cmp.Or(c.SendTo(io.Discard), err)
		case try == 2 || ctx.Err() != nil:
			return err
		}
		if _, err := c.Seek(0, io.SeekStart); err != nil { // the connection may have been an old one
			return err
		}
	}
}

func (s *Copies) put(ctx context.Context, to Server, digest string, c registry.Content) error {
	ctx, alive, cancel := stalling(ctx, timeouts.BlobStall)
	defer cancel()
	answer, err := call(ctx, to, http.MethodPut, "blobs/"+digest, alive(c), c.Size())
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// sweep has another server remove what is not held.
func sweep(ctx context.Context, at Server, before time.Time, held map[string]bool) (blobs int, size int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeouts.BlobSweep)
	defer cancel()
	var list bytes.Buffer
	for digest := range held {
		list.WriteString(digest)
		list.WriteByte('\n')
	}
	answer, err := call(ctx, at, http.MethodPost, "sweep?before="+strconv.FormatInt(before.UnixMilli(), 10), &list, int64(list.Len()))
	if err != nil {
		return 0, 0, err
	}
	defer answer.Body.Close()
	var swept swept
	err = json.NewDecoder(io.LimitReader(answer.Body, 1<<10)).Decode(&swept)
	return swept.Blobs, swept.Bytes, err
}

// swept is the answer to a sweep.
type swept struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

// Upload implements registry.Storage. The ids of a server that is one of several name it: the upload goes on there.
func (s *Copies) Upload(ctx context.Context, id string) (registry.Upload, error) {
	at, local, named := strings.Cut(id, ".")
	if id == "" || !named || at == s.c.Self {
		if named {
			id = local
		}
		u, err := s.c.Local.Upload(ctx, id)
		if err != nil {
			return nil, err
		}
		return &here{Upload: u, copies: s}, nil
	}
	for _, other := range s.c.Others() {
		if other.ID == at {
			u := &there{ctx: ctx, server: other, id: local}
			return u, u.ask(http.MethodGet, "", nil, 0)
		}
	}
	return nil, registry.ErrUploadUnknown
}

// here is an upload to this server.
type here struct {
	registry.Upload
	copies *Copies
}

// Below is the upload to the disk.
func (u *here) Below() registry.Upload { return u.Upload }

// ID implements registry.Upload.
func (u *here) ID() string {
	if u.copies.c.Self == "" {
		return u.Upload.ID()
	}
	return u.copies.c.Self + "." + u.Upload.ID()
}

// Finish implements registry.Upload.
func (u *here) Finish(digest string) (int64, error) {
	size, err := u.Upload.Finish(digest)
	if err == nil {
		u.copies.forward(digest)
	}
	return size, err
}

// there is an upload to another server.
type there struct {
	ctx    context.Context
	server Server
	id     string
	size   int64
}

// ask makes a request about the upload; the answer says its size.
func (u *there) ask(method, query string, body io.Reader, length int64) error {
	ctx, alive, cancel := stalling(u.ctx, timeouts.BlobStall)
	defer cancel()
	if body != nil {
		body = alive(body)
	}
	answer, err := call(ctx, u.server, method, "uploads/"+u.id+query, body, length)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if size, err := strconv.ParseInt(answer.Header.Get(sizeHeader), 10, 64); err == nil {
		u.size = size
	}
	return nil
}

// ID implements registry.Upload.
func (u *there) ID() string { return u.server.ID + "." + u.id }

// Size implements registry.Upload.
func (u *there) Size() int64 { return u.size }

// Write implements registry.Upload.
func (u *there) Write(r io.Reader, start int64) (int64, error) {
	err := u.ask(http.MethodPatch, "?start="+strconv.FormatInt(start, 10), r, -1)
	return u.size, err
}

// Finish implements registry.Upload.
func (u *there) Finish(digest string) (int64, error) {
	err := u.ask(http.MethodPut, "?digest="+url.QueryEscape(digest), nil, 0)
	return u.size, err
}

// Cancel implements registry.Upload.
func (u *there) Cancel() error { return u.ask(http.MethodDelete, "", nil, 0) }

// stalling is a context that ends when nothing was read through alive for d; cancel ends it.
func stalling(ctx context.Context, d time.Duration) (_ context.Context, alive func(io.Reader) io.Reader, cancel func()) {
	ctx, end := context.WithCancelCause(ctx)
	t := time.AfterFunc(d, func() { end(fmt.Errorf("nothing moved for %s", d)) })
	return ctx, func(r io.Reader) io.Reader { return &living{r, t, d} }, func() { t.Stop(); end(nil) }
}

// living puts a timer off with each read.
type living struct {
	io.Reader
	timer *time.Timer
	wait  time.Duration
}

// Read implements io.Reader.
func (l *living) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	l.timer.Reset(l.wait)
	return n, err
}
