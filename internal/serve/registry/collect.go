package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/store"
)

// lease is how long a blob stays without a manifest that refers to it: a push in progress must not lose its layers.
const lease = 24 * time.Hour

// Collect removes what no manifest refers to and nobody pushed or asked for within the last day. It may run while clients push
// and pull. It returns how many blobs and bytes it freed.
func (r *Registry) Collect(ctx context.Context) (blobs int, bytes int64, err error) {
	before := r.Now().Add(-lease)
	r.sealing.forget(before)
	var held map[string]bool
	err = r.Store.Update(ctx, func(tx store.Tx) error {
		var drop, unsealed []string
		held, drop, unsealed = holds(tx, before)
		for _, key := range drop {
			store.RepositoryBlobs.Delete(tx, key)
		}
		for _, key := range unsealed {
			store.SealedBlobs.Delete(tx, key)
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	return r.Blobs.Sweep(ctx, before, held)
}

// holds says which blobs stay, and which rows of repositories' blobs and of sealed ones go.
func holds(tx store.Reader, before time.Time) (held map[string]bool, drop, unsealed []string) {
	held = map[string]bool{}
	used := map[string]bool{}
	in, sealed := scopes(tx), map[need]bool{}
	hold := func(repo, digest string) {
		if s, ok := in[repo]; ok {
			sealed[need{s, digest}] = true
			_, there := store.SealedBlobs.Get(tx, s.String()+" "+digest)
			if there || s.kind != types.EncryptionTypeAes256 {
				return
			}
		}
		held[digest] = true
	}
	for img := range store.Images.Scan(tx, "") {
		hold(img.Repository, img.Digest)
		if img.Inventory != "" {
			hold(img.Repository, img.Inventory)
		}
		for _, d := range img.Blobs {
			used[img.Repository+"@"+d] = true
		}
	}
	for b := range store.RepositoryBlobs.Scan(tx, "") {
		if used[b.Key()] || b.At.After(before) {
			hold(b.Repository, b.Digest)
		} else {
			drop = append(drop, b.Key())
		}
	}
	wanted := map[string]bool{}
	for n := range sealed {
		wanted[n.scope.String()+" "+n.digest] = true
	}
	for b := range store.SealedBlobs.Scan(tx, "") {
		if wanted[b.Key()] || b.At.After(before) {
			held[b.Sealed] = true
		} else {
			unsealed = append(unsealed, b.Key())
		}
	}
	return held, drop, unsealed
}

// Garbage lists what Collect would remove now.
func (r *Registry) Garbage(ctx context.Context) (digests []string, bytes int64, err error) {
	list, ok := r.Blobs.(Lister)
	if !ok {
		return nil, 0, errors.New("this blob store cannot list what it has")
	}
	before := r.Now().Add(-lease)
	var held map[string]bool
	r.Store.View(func(tx store.Reader) { held, _, _ = holds(tx, before) })
	err = list.List(ctx, func(digest string, size int64, at time.Time) error {
		if !held[digest] && at.Before(before) {
			digests, bytes = append(digests, digest), bytes+size
		}
		return nil
	})
	return digests, bytes, err
}

// Report is what Check found.
type Report struct {
	Images  int      `json:"images"`
	Blobs   int      `json:"blobs"` // read, each once
	Bytes   int64    `json:"bytes"`
	Missing []string `json:"missing"` // <repository>@<image>: what is not there
	Corrupt []string `json:"corrupt"` // and what had another content, and was set aside
}

// Check reads all that the images need and compares it with its digests. What is corrupt is set aside: the next push mends it.
func (r *Registry) Check(ctx context.Context) (Report, error) {
	report := Report{Missing: []string{}, Corrupt: []string{}}
	var needed map[need][]string
	r.Store.View(func(tx store.Reader) {
		for range store.Images.Scan(tx, "") {
			report.Images++
		}
		needed = needs(tx)
	})
	for n, images := range needed {
		digest := n.digest
		size, err := r.checkOne(ctx, n)
		list := &report.Missing
		if errors.Is(err, ErrCorrupt) {
			list = &report.Corrupt
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return report, fmt.Errorf("blob %s: %w", digest, err)
		}
		if err == nil {
			report.Blobs, report.Bytes = report.Blobs+1, report.Bytes+size
			continue
		}
		for _, img := range images {
			*list = append(*list, img+": "+digest)
		}
	}
	slices.Sort(report.Missing)
	slices.Sort(report.Corrupt)
	return report, ctx.Err()
}

func (r *Registry) checkOne(ctx context.Context, n need) (int64, error) {
	c, err := r.in(n.scope).Open(ctx, n.digest)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.Size(), c.Check()
}

// Scrub reads all blobs, at most rate bytes a second, so that what has become corrupt is set aside and mended by the next push.
func Scrub(ctx context.Context, s interface {
	Storage
	Lister
}, rate int64) (read int, corrupt []string, err error) {
	err = s.List(ctx, func(digest string, size int64, _ time.Time) error {
		began := time.Now()
		c, err := s.Open(ctx, digest)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer c.Close()
		read++
		if err := c.SendTo(io.Discard); errors.Is(err, ErrCorrupt) {
			corrupt = append(corrupt, digest)
		} else if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(float64(size)/float64(rate)*float64(time.Second)) - time.Since(began)):
			return nil
		}
	})
	return read, corrupt, err
}
