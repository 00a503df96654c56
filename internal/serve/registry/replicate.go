package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Peer is another registry that images are replicated to.
type Peer interface {
	// Has tells whether a repository there has one of the "blobs" or "manifests".
	Has(ctx context.Context, repo, what, digest string) (bool, error)
	PutBlob(ctx context.Context, repo, digest string, size int64, open func() (io.Reader, error)) error
	PutManifest(ctx context.Context, repo, reference, mediaType string, content []byte) error
}

// maxTries is how often an image is sent before its replication has failed; retryAfter is the pause after the first try, doubled each time.
const (
	maxTries   = 6
	retryAfter = 5 * time.Second
)

// replicate has an image that was pushed sent to where the rules say.
func (r *Registry) replicate(tx store.Tx, img *model.Image) {
	s, ok := store.RegistrySettings.Get(tx, model.RegistryKey)
	if !ok {
		return
	}
	for _, rule := range s.Replication.Rules {
		about := len(rule.RepositoryFilters) == 0 || slices.ContainsFunc(rule.RepositoryFilters, func(f ecrtypes.RepositoryFilter) bool {
			return strings.HasPrefix(img.Repository, *f.Filter)
		})
		if !about {
			continue
		}
		for _, d := range rule.Destinations {
			store.Replications.Put(tx, &model.Replication{Repository: img.Repository, Digest: img.Digest, Region: *d.Region, RegistryID: *d.RegistryId,
				Tags: img.Tags, Status: ecrtypes.ReplicationStatusInProgress, At: r.Now()})
		}
	}
}

// Replicate sends what is to be sent now. Call it every few seconds on the leader.
func (r *Registry) Replicate(ctx context.Context) error {
	var due []*model.Replication
	r.Store.View(func(tx store.Reader) {
		for row := range store.Replications.By(tx, store.ByState, string(ecrtypes.ReplicationStatusInProgress)) {
			if row.Tries == 0 || r.Now().Sub(row.At) >= retryAfter<<(row.Tries-1) {
				due = append(due, row)
			}
		}
	})
	slices.SortFunc(due, func(a, b *model.Replication) int { return a.At.Compare(b.At) })
	var failed []error
	for _, row := range due {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed = append(failed, r.sendOne(ctx, row))
	}
	return errors.Join(failed...)
}

// sendOne tries to send an image and stores how that went.
func (r *Registry) sendOne(ctx context.Context, row *model.Replication) error {
	var peer Peer
	if r.Peers != nil {
		peer = r.Peers(row.Region, row.RegistryID)
	}
	err := fmt.Errorf("no registry %s in %s is known", row.RegistryID, row.Region)
	if peer != nil {
		err = r.sendImage(ctx, peer, row.Repository, row.Digest, row.Tags, 0)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(err, r.Store.Update(ctx, func(tx store.Tx) error {
		cur, ok := store.Replications.Get(tx, row.Key())
		if !ok || !cur.At.Equal(row.At) { // it was stopped, or pushed again
			return nil
		}
		next := *cur
		next.Tries, next.At = cur.Tries+1, r.Now()
		switch {
		case err == nil:
			next.Status = ecrtypes.ReplicationStatusComplete
		case next.Tries >= maxTries:
			next.Status, next.Failure = ecrtypes.ReplicationStatusFailed, "ReplicationFailed"
		}
		store.Replications.Put(tx, &next)
		return nil
	}))
}

// maxNesting is how deep indexes may be in each other.
const maxNesting = 8

// sendImage sends a manifest with all that it needs. An image that is gone needs no sending.
func (r *Registry) sendImage(ctx context.Context, to Peer, repo, dgst string, tags []string, depth int) error {
	img, err := r.resolve(repo, dgst)
	if err != nil {
		return nil
	}
	if depth > maxNesting {
		return errors.New("its indexes are nested too deep")
	}
	for _, child := range img.Children {
		if err := r.sendImage(ctx, to, repo, child, nil, depth+1); err != nil {
			return err
		}
	}
	for _, blob := range img.Blobs {
		if err := r.sendBlobTo(ctx, to, repo, blob); err != nil {
			return err
		}
	}
	m, err := r.GetManifest(ctx, repo, dgst)
	if err != nil {
		return err
	}
	for _, reference := range append([]string{dgst}, tags...) {
		if err := to.PutManifest(ctx, repo, reference, m.MediaType, m.Content); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) sendBlobTo(ctx context.Context, to Peer, repo, dgst string) error {
	if has, err := to.Has(ctx, repo, "blobs", dgst); err != nil || has {
		return err
	}
	c, err := r.blobsOf(repo).Open(ctx, dgst)
	if err != nil {
		return err
	}
	defer c.Close()
	return to.PutBlob(ctx, repo, dgst, c.Size(), func() (io.Reader, error) {
		_, err := c.Seek(0, io.SeekStart)
		return struct{ io.Reader }{c}, err
	})
}
