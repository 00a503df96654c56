package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry/seal"
	"github.com/berthdev/berth/internal/store"
)

// Ring wraps data keys; keys.Ring is the real one.
type Ring interface {
	GenerateDataKey(ctx context.Context, keyID string, context map[string]string, n int) (plain, sealed []byte, keyARN string, err error)
	Decrypt(ctx context.Context, sealed []byte, context map[string]string) (plain []byte, keyARN string, err error)
}

// scope is what blobs are encrypted with: repositories of one scope share bytes, others do not. The zero scope is not encrypted here.
type scope struct {
	kind types.EncryptionType
	key  string // ARN
}

// platformKey encrypts repositories of type AES256, as the keys that AWS has for S3 do.
const platformKey = "alias/aws/ecr"

func scopeOf(repo *model.Repository) scope {
	e := repo.Repository.EncryptionConfiguration
	if e != nil && e.EncryptionType == types.EncryptionTypeAes256 {
		return scope{types.EncryptionTypeAes256, platformKey}
	}
	if e == nil || e.KmsKey == nil || e.EncryptionType != types.EncryptionTypeKms && e.EncryptionType != types.EncryptionTypeKmsDsse {
		return scope{}
	}
	return scope{e.EncryptionType, *e.KmsKey}
}

func (s scope) String() string { return string(s.kind) + "/" + s.key }

// layers is how many times a blob is encrypted, each time with a data key of its own.
func (s scope) layers() int {
	if s.kind == types.EncryptionTypeKmsDsse {
		return 2
	}
	return 1
}

// blobsOf is where a repository's blobs are.
func (r *Registry) blobsOf(repo string) Storage {
	var s scope
	r.Store.View(func(tx store.Reader) {
		if row, ok := store.Repositories.Get(tx, repo); ok {
			s = scopeOf(row)
		}
	})
	return r.in(s)
}

// in is where the blobs of a scope are.
func (r *Registry) in(s scope) Storage {
	if s == (scope{}) {
		return r.Blobs
	}
	return &sealedBlobs{r, s}
}

// sameScope tells whether two repositories share bytes.
func (r *Registry) sameScope(a, b string) (same bool) {
	r.Store.View(func(tx store.Reader) { in := scopes(tx); same = in[a] == in[b] })
	return same
}

// scopes are the repositories that have one, by name.
func scopes(tx store.Reader) map[string]scope {
	all := map[string]scope{}
	for repo := range store.Repositories.Scan(tx, "") {
		if s := scopeOf(repo); s != (scope{}) {
			all[repo.Name] = s
		}
	}
	return all
}

// need is one thing that images need.
type need struct {
	scope  scope
	digest string
}

// needs are those of all images, with the images' keys.
func needs(tx store.Reader) map[need][]string {
	in, all := scopes(tx), map[need][]string{}
	for img := range store.Images.Scan(tx, "") {
		n := need{in[img.Repository], img.Digest}
		all[n] = append(all[n], img.Key())
		for _, d := range img.Blobs {
			if _, held := store.RepositoryBlobs.Get(tx, img.Repository+"@"+d); held || !img.Cached {
				n.digest = d
				all[n] = append(all[n], img.Key())
			}
		}
	}
	return all
}

// sealedBlobs is a Storage of plain blobs over one of sealed ones: which plain digest is in which sealed blob the store says, so that
// copies, scrubbing and collection need no key.
type sealedBlobs struct {
	r     *Registry
	scope scope
}

// older tells whether an error says that a blob is not among the sealed, but may be among those that repositories of type AES256 took
// before they were encrypted.
func (s *sealedBlobs) older(err error) bool {
	return s.scope.kind == types.EncryptionTypeAes256 && errors.Is(err, fs.ErrNotExist)
}

func (s *sealedBlobs) row(digest string) (*model.SealedBlob, error) {
	if !digestPattern.MatchString(digest) {
		return nil, ErrDigest
	}
	var row *model.SealedBlob
	s.r.Store.View(func(tx store.Reader) { row, _ = store.SealedBlobs.Get(tx, s.scope.String()+" "+digest) })
	if row == nil {
		return nil, &LostError{digest}
	}
	return row, nil
}

// Stat implements Storage.
func (s *sealedBlobs) Stat(ctx context.Context, digest string) (int64, error) {
	row, err := s.row(digest)
	if s.older(err) {
		return s.r.Blobs.Stat(ctx, digest)
	}
	if err != nil {
		return 0, err
	}
	_, err = s.r.Blobs.Stat(ctx, row.Sealed)
	return row.Size, err
}

// about is what data keys and segments are bound to.
func (s *sealedBlobs) about() map[string]string {
	return map[string]string{"berth:registry": s.scope.String()}
}

// kms makes of a refusal of the ring's that of a request.
func kms(err error) error {
	if e, ok := errors.AsType[*model.Error](err); ok {
		return &KMSError{e.Code, e.Message}
	}
	return err
}

// KMSError says why a repository's key cannot be used.
type KMSError struct{ Code, Message string }

// Error implements error.
func (e *KMSError) Error() string { return e.Code + ": " + e.Message }

// Open implements Storage.
func (s *sealedBlobs) Open(ctx context.Context, digest string) (Content, error) {
	row, err := s.row(digest)
	if s.older(err) {
		return s.r.Blobs.Open(ctx, digest)
	}
	if err != nil {
		return nil, err
	}
	return s.openRow(ctx, row)
}

func (s *sealedBlobs) openRow(ctx context.Context, row *model.SealedBlob) (*sealedContent, error) {
	if s.r.Ring == nil {
		return nil, &KMSError{"NotFoundException", "this Berth has no keys"}
	}
	var keys [][]byte
	for _, k := range row.Keys {
		plain, _, err := s.r.Ring.Decrypt(ctx, k, s.about())
		if err != nil {
			return nil, kms(err)
		}
		keys = append(keys, plain)
	}
	below, err := s.r.Blobs.Open(ctx, row.Sealed)
	if err != nil {
		return nil, err
	}
	c := &sealedContent{below: below, digest: row.Digest}
	var from io.ReadSeeker = below
	size := below.Size()
	for i := len(keys) - 1; i >= 0; i-- { // the last layer was the outermost
		if c.Reader, err = seal.NewReader(from, size, keys[i], []byte(s.scope.String())); err != nil {
			return nil, errors.Join(err, below.Close())
		}
		from, size = c.Reader, c.Reader.Size()
	}
	return c, nil
}

// sealedContent is an opened sealed blob: its segments are authentic, and its bytes below are checked as any blob's.
type sealedContent struct {
	*seal.Reader
	below  Content
	digest string
}

// Close implements io.Closer.
func (c *sealedContent) Close() error { return c.below.Close() }

// Check implements Content.
func (c *sealedContent) Check() error { return c.below.Check() }

// SendTo implements Content.
func (c *sealedContent) SendTo(w io.Writer) error {
	if _, err := c.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := copyBuffer(w, c.Reader) // each segment is authentic, and the last one is marked: there is no need of the digest
	if errors.Is(err, seal.ErrForged) {
		return cmp.Or(c.below.SendTo(io.Discard), fmt.Errorf("blob %s: %w", c.digest, seal.ErrForged)) // which sets it aside
	}
	return err
}

// Secure implements Storage.
func (s *sealedBlobs) Secure(ctx context.Context, digests []string) error {
	for i, d := range digests {
		row, err := s.row(d)
		if err == nil {
			d = row.Sealed
		} else if !s.older(err) {
			return err
		}
		err = s.r.Blobs.Secure(ctx, []string{d})
		if errors.Is(err, fs.ErrNotExist) {
			return &LostError{digests[i]}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Sweep implements Storage: what is sealed is swept with all else.
func (s *sealedBlobs) Sweep(context.Context, time.Time, map[string]bool) (int, int64, error) {
	return 0, 0, nil
}

// Encryption is that of a repository for which nobody asked for one; nil: none, and nobody is told that there is.
func Encryption(always bool) *types.EncryptionConfiguration {
	if !always {
		return nil
	}
	return &types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeAes256}
}

// StatIn is Stat of a blob of a repository, whatever that is encrypted with.
func StatIn(ctx context.Context, s store.Store, blobs Storage, repo, digest string) (int64, error) {
	return (&Registry{Config: Config{Store: s, Blobs: blobs}}).blobsOf(repo).Stat(ctx, digest)
}
