package s3store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"

	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/serve/registry/storagetest"
)

// open starts an S3 server with one bucket and opens a store in it.
func open(t *testing.T) *Store {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket(context.Background(), "images"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(srv.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	staging, err := registry.OpenBlobs(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), "s3://images/berth?endpoint="+srv.URL, staging, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStorage(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) registry.Storage { return open(t) })
}

func TestCorruptBlobsAreSetAsideAndMended(t *testing.T) {
	s := open(t)
	data := bytes.Repeat([]byte("layer"), 1000)
	digest := storagetest.Push(t, s, data)
	key, _ := s.key(digest)
	if _, err := s.Client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.Bucket, Key: key, Body: bytes.NewReader(bytes.Repeat([]byte("liar!"), 1000))}); err != nil {
		t.Fatal(err)
	}
	c, err := s.Open(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := c.SendTo(&got); !errors.Is(err, registry.ErrCorrupt) || got.Len() >= len(data) {
		t.Errorf("sent %d bytes, %v", got.Len(), err)
	}
	if _, err := s.Open(t.Context(), digest); err == nil {
		t.Error("the corrupt blob is still there")
	}
	storagetest.Push(t, s, data)
	if got, err := storagetest.Read(t, s, digest); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after a new push: %v", err)
	}
}

func TestSweepLeavesNothingStaged(t *testing.T) {
	s := open(t)
	kept, gone := storagetest.Push(t, s, []byte("kept")), storagetest.Push(t, s, []byte("gone"))
	n, size, err := s.Sweep(t.Context(), time.Now().Add(time.Hour), map[string]bool{kept: true})
	if err != nil || n != 1 || size != 4 {
		t.Errorf("swept %d blobs, %d bytes, %v", n, size, err)
	}
	if _, err := s.Stat(t.Context(), gone); err == nil {
		t.Error("it is still there")
	}
	if err := s.Staging.List(t.Context(), func(digest string, _ int64, _ time.Time) error { return errors.New(digest) }); err != nil {
		t.Errorf("staged: %v", err)
	}
}

func TestLargeBlobsGoInParts(t *testing.T) {
	s := open(t)
	u, err := s.Upload(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), (partSize+1<<20)/16)
	if _, err := u.Write(bytes.NewReader(data), 0); err != nil {
		t.Fatal(err)
	}
	digest := storagetest.Digest(data)
	if _, err := u.Finish(digest); err != nil {
		t.Fatal(err)
	}
	c, err := s.Open(t.Context(), digest)
	if err != nil || c.Size() != int64(len(data)) {
		t.Fatal(err)
	}
	if err := c.SendTo(io.Discard); err != nil {
		t.Error(err)
	}
	up, err := s.Client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String("images")})
	if err == nil && len(up.Uploads) > 0 {
		t.Errorf("%d uploads are left", len(up.Uploads))
	}
}

func TestLocationsThatAreRefused(t *testing.T) {
	for _, location := range []string{"", "bucket", "http://bucket", "s3://", "s3://none?endpoint=http://127.0.0.1:1"} {
		if _, err := Open(t.Context(), location, nil, nil); err == nil {
			t.Errorf("%q was opened", location)
		}
	}
}
