// Package s3store keeps blobs in a bucket of any store that speaks S3. Uploads are staged on this server's disk, where they can be
// continued and are checked; a blob is in the bucket whole or not at all.
package s3store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/berthdev/berth/internal/serve/registry"
)

// Store is a registry.Storage over a bucket.
type Store struct {
	Client *s3.Client
	Bucket string
	Prefix string // of all keys; "" or it ends with a slash
	// Staging holds uploads until they are in the bucket.
	Staging *registry.Blobs
	Log     *slog.Logger

	locks    [64]sync.Mutex // by digest: a sweep and a push of one blob take turns
	mu       sync.Mutex
	verified map[string]string // ETags of blobs that were read whole and had their digests
}

var (
	_ registry.Storage = (*Store)(nil)
	_ registry.Records = (*Store)(nil)
	_ registry.Lister  = (*Store)(nil)
)

// Open reads a location such as s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1. The keys are those of the
// environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN). It fails when the bucket cannot be reached.
func Open(ctx context.Context, location string, staging *registry.Blobs, log *slog.Logger) (*Store, error) {
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "s3" || u.Host == "" {
		return nil, fmt.Errorf("blob store %q: want s3://BUCKET[/PREFIX][?endpoint=URL&region=REGION]", location)
	}
	q := u.Query()
	region := q.Get("region")
	if region == "" {
		region = "us-east-1"
	}
	o := s3.Options{Region: region, UsePathStyle: q.Get("endpoint") != "", RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired, RetryMaxAttempts: 5,
		Credentials: credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN"))}
	if e := q.Get("endpoint"); e != "" {
		o.BaseEndpoint = &e
	}
	s := &Store{Client: s3.New(o), Bucket: u.Host, Staging: staging, Log: log}
	if p := strings.Trim(u.Path, "/"); p != "" {
		s.Prefix = p + "/"
	}
	if _, err := s.Client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.Bucket}); err != nil {
		return nil, fmt.Errorf("blob store s3://%s: %w", u.Host, err)
	}
	return s, nil
}

var digestPattern = regexp.MustCompile(`^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$`)

// key is where a blob is in the bucket.
func (s *Store) key(digest string) (*string, error) {
	if !digestPattern.MatchString(digest) {
		return nil, registry.ErrDigest
	}
	algorithm, hex, _ := strings.Cut(digest, ":")
	return aws.String(s.Prefix + path.Join("blobs", algorithm, hex[:2], hex)), nil
}

func (s *Store) lock(digest string) *sync.Mutex {
	h := fnv.New32a()
	h.Write([]byte(digest))
	return &s.locks[h.Sum32()%uint32(len(s.locks))]
}

// missing makes a 404 an fs.ErrNotExist.
func missing(err error) error {
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && r.HTTPStatusCode() == http.StatusNotFound {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

func (s *Store) head(ctx context.Context, digest string) (*s3.HeadObjectOutput, error) {
	key, err := s.key(digest)
	if err != nil {
		return nil, err
	}
	h, err := s.Client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.Bucket, Key: key})
	return h, missing(err)
}

// Stat implements registry.Storage.
func (s *Store) Stat(ctx context.Context, digest string) (int64, error) {
	h, err := s.head(ctx, digest)
	if err != nil {
		return 0, err
	}
	return aws.ToInt64(h.ContentLength), nil
}

// Open implements registry.Storage.
func (s *Store) Open(ctx context.Context, digest string) (registry.Content, error) {
	h, err := s.head(ctx, digest)
	if err != nil {
		return nil, err
	}
	return &content{ctx: ctx, s: s, digest: digest, size: aws.ToInt64(h.ContentLength), etag: aws.ToString(h.ETag)}, nil
}

// Secure implements registry.Storage: what is in the bucket is safe.
func (s *Store) Secure(ctx context.Context, digests []string) error {
	for _, d := range digests {
		if _, err := s.Stat(ctx, d); errors.Is(err, fs.ErrNotExist) {
			return &registry.LostError{Digest: d}
		} else if err != nil {
			return err
		}
	}
	return nil
}

// List implements registry.Lister.
func (s *Store) List(ctx context.Context, f func(digest string, size int64, at time.Time) error) error {
	return s.list(ctx, "blobs/", func(o types.Object) error {
		parts := strings.Split(strings.TrimPrefix(*o.Key, s.Prefix), "/")
		if len(parts) != 4 {
			return nil
		}
		return f(parts[1]+":"+parts[3], aws.ToInt64(o.Size), aws.ToTime(o.LastModified))
	})
}

func (s *Store) list(ctx context.Context, below string, f func(types.Object) error) error {
	pages := s3.NewListObjectsV2Paginator(s.Client, &s3.ListObjectsV2Input{Bucket: &s.Bucket, Prefix: aws.String(s.Prefix + below)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			if err := f(o); err != nil {
				return err
			}
		}
	}
	return nil
}

// Sweep implements registry.Storage.
func (s *Store) Sweep(ctx context.Context, before time.Time, held map[string]bool) (n int, size int64, err error) {
	err = s.List(ctx, func(digest string, bytes int64, at time.Time) error {
		if held[digest] || !at.Before(before) {
			return nil
		}
		gone, err := s.remove(ctx, digest, before)
		if gone {
			n, size = n+1, size+bytes
		}
		return err
	})
	if err != nil {
		return n, size, err
	}
	_, _, err = s.Staging.Sweep(ctx, before, held)
	return n, size, err
}

// remove deletes a blob unless somebody has pushed it again.
func (s *Store) remove(ctx context.Context, digest string, before time.Time) (bool, error) {
	lock := s.lock(digest)
	lock.Lock()
	defer lock.Unlock()
	h, err := s.head(ctx, digest)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !aws.ToTime(h.LastModified).Before(before) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	key, _ := s.key(digest)
	_, err = s.Client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.Bucket, Key: key})
	return err == nil, err
}

// setAside moves a corrupt blob out of the way of a new push.
func (s *Store) setAside(ctx context.Context, digest string) error {
	lock := s.lock(digest)
	lock.Lock()
	defer lock.Unlock()
	key, err := s.key(digest)
	if err != nil {
		return err
	}
	aside := s.Prefix + "corrupt/" + strings.ReplaceAll(digest, ":", "-")
	if _, err := s.Client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &s.Bucket, Key: &aside, CopySource: aws.String(url.PathEscape(s.Bucket + "/" + *key))}); err != nil {
		s.Log.Warn("a corrupt blob was not kept for a look", "digest", digest, "error", err)
	}
	if _, err := s.Client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.Bucket, Key: key}); err != nil {
		return fmt.Errorf("blob %s is corrupt and cannot be set aside: %w", digest, err)
	}
	return registry.ErrCorrupt
}

// content is a blob that is read from the bucket, from an offset on.
type content struct {
	ctx    context.Context
	s      *Store
	digest string
	size   int64
	etag   string
	offset int64
	body   io.ReadCloser // at offset; nil: none is open
}

// Size implements registry.Content.
func (c *content) Size() int64 { return c.size }

// Close implements io.Closer.
func (c *content) Close() error {
	if c.body == nil {
		return nil
	}
	body := c.body
	c.body = nil
	return body.Close()
}

// Seek implements io.Seeker.
func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.offset
	case io.SeekEnd:
		offset += c.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the blob's beginning")
	}
	if offset != c.offset {
		c.Close()
	}
	c.offset = offset
	return offset, nil
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	if c.offset >= c.size {
		return 0, io.EOF
	}
	if c.body == nil {
		body, err := c.get(c.offset)
		if err != nil {
			return 0, err
		}
		c.body = body
	}
	n, err := c.body.Read(p)
	c.offset += int64(n)
	return n, err
}

func (c *content) get(from int64) (io.ReadCloser, error) {
	key, err := c.s.key(c.digest)
	if err != nil {
		return nil, err
	}
	in := &s3.GetObjectInput{Bucket: &c.s.Bucket, Key: key}
	if from > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", from))
	}
	out, err := c.s.Client.GetObject(c.ctx, in)
	if err != nil {
		return nil, missing(err)
	}
	return out.Body, nil
}

// Check implements registry.Content.
func (c *content) Check() error {
	c.s.mu.Lock()
	known := c.etag != "" && c.s.verified[c.digest] == c.etag
	c.s.mu.Unlock()
	if known {
		return nil
	}
	return c.SendTo(io.Discard)
}

// SendTo implements registry.Content.
func (c *content) SendTo(w io.Writer) error {
	if c.size == 0 {
		return c.checked(registry.CopyChecked(w, c.digest, strings.NewReader("")))
	}
	body, err := c.get(0)
	if err != nil {
		return err
	}
	defer body.Close()
	return c.checked(registry.CopyChecked(w, c.digest, body))
}

func (c *content) checked(err error) error {
	if errors.Is(err, registry.ErrMismatch) {
		return c.s.setAside(c.ctx, c.digest)
	}
	if err == nil {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		if c.s.verified == nil || len(c.s.verified) > 1<<16 {
			c.s.verified = map[string]string{}
		}
		c.s.verified[c.digest] = c.etag
	}
	return err
}
