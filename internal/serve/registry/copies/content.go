package copies

import (
	"context"
	"errors"
	"io"

	"github.com/berthdev/berth/internal/serve/registry"
)

// content is a blob of this server, or of another until it is here.
type content struct {
	ctx    context.Context
	copies *Copies
	digest string
	size   int64
	local  registry.Content // nil: it is at from
	from   Server
	offset int64 // while local is nil
}

// Size implements registry.Content.
func (c *content) Size() int64 { return c.size }

// Close implements io.Closer.
func (c *content) Close() error {
	if c.local == nil {
		return nil
	}
	return c.local.Close()
}

// Seek implements io.Seeker.
func (c *content) Seek(offset int64, whence int) (int64, error) {
	if c.local != nil {
		return c.local.Seek(offset, whence)
	}
	switch whence {
	case io.SeekCurrent:
		offset += c.offset
	case io.SeekEnd:
		offset += c.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the blob's beginning")
	}
	c.offset = offset
	return offset, nil
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	if err := c.fetch(); err != nil {
		return 0, err
	}
	return c.local.Read(p)
}

// fetch has the blob here.
func (c *content) fetch() error {
	if c.local != nil {
		return nil
	}
	if err := c.copies.fetch(c.ctx, c.from, c.digest); err != nil {
		return err
	}
	local, err := c.copies.c.Local.Open(c.ctx, c.digest)
	if err != nil {
		return err
	}
	if _, err := local.Seek(c.offset, io.SeekStart); err != nil {
		return errors.Join(err, local.Close())
	}
	c.local = local
	return nil
}

// Check implements registry.Content. A corrupt blob is mended from another server.
func (c *content) Check() error {
	if err := c.fetch(); err != nil {
		return err
	}
	err := c.local.Check()
	if !errors.Is(err, registry.ErrCorrupt) || c.copies.heal(c.ctx, c.digest) != nil {
		return err
	}
	offset, err := c.local.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	_ = c.local.Close() // the corrupt one
	c.local, c.offset = nil, offset
	if c.local, err = c.copies.c.Local.Open(c.ctx, c.digest); err != nil {
		return err
	}
	_, err = c.local.Seek(offset, io.SeekStart)
	return err
}

// SendTo implements registry.Content. A blob that is corrupt here is sent from another server if nothing was sent yet, and mended.
func (c *content) SendTo(w io.Writer) error {
	if c.local == nil {
		return c.copies.tee(c.ctx, c.from, c.digest, w)
	}
	out := &counted{Writer: w}
	err := c.local.SendTo(out)
	if !errors.Is(err, registry.ErrCorrupt) {
		return err
	}
	from, _, ferr := c.copies.find(c.ctx, c.digest)
	if ferr != nil {
		return err
	}
	if out.n > 0 {
		_ = c.copies.fetch(c.ctx, from, c.digest) // who asks again gets it
		return err
	}
	return c.copies.tee(c.ctx, from, c.digest, w)
}

// counted counts what is written.
type counted struct {
	io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}
