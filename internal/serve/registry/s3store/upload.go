package s3store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berthdev/berth/internal/serve/registry"
)

// partSize is how much of a large blob goes in one request; S3 takes 10,000 parts of a blob.
const partSize = 64 << 20

// Upload implements registry.Storage.
func (s *Store) Upload(ctx context.Context, id string) (registry.Upload, error) {
	u, err := s.Staging.Upload(ctx, id)
	if err != nil {
		return nil, err
	}
	return &upload{u, ctx, s}, nil
}

type upload struct {
	registry.Upload
	ctx context.Context
	s   *Store
}

// Below is the upload into the staging.
func (u *upload) Below() registry.Upload { return u.Upload }

// Finish implements registry.Upload: the blob is checked here, sent, and then removed from the staging.
func (u *upload) Finish(digest string) (int64, error) {
	size, err := u.Upload.Finish(digest)
	if err != nil {
		return 0, err
	}
	if err := u.s.send(u.ctx, digest); err != nil {
		return 0, fmt.Errorf("send blob %s to the bucket: %w", digest, err)
	}
	return size, u.s.Staging.Remove(digest)
}

func (s *Store) send(ctx context.Context, digest string) error {
	key, err := s.key(digest)
	if err != nil {
		return err
	}
	c, err := s.Staging.Open(ctx, digest)
	if err != nil {
		return err
	}
	defer c.Close()
	lock := s.lock(digest)
	lock.Lock()
	defer lock.Unlock()
	if c.Size() <= partSize {
		_, err := s.Client.PutObject(ctx, &s3.PutObjectInput{Bucket: &s.Bucket, Key: key, Body: c, ContentLength: aws.Int64(c.Size())})
		return err
	}
	return s.sendParts(ctx, key, c)
}

func (s *Store) sendParts(ctx context.Context, key *string, c registry.Content) error {
	begun, err := s.Client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &s.Bucket, Key: key})
	if err != nil {
		return err
	}
	var parts []types.CompletedPart
	size := max(int64(partSize), (c.Size()+9_999)/10_000)
	for at := int64(0); at < c.Size(); at += size {
		n := min(size, c.Size()-at)
		number := int32(len(parts) + 1)
		part, perr := s.Client.UploadPart(ctx, &s3.UploadPartInput{Bucket: &s.Bucket, Key: key, UploadId: begun.UploadId, PartNumber: &number,
			Body: io.NewSectionReader(readerAt{c}, at, n), ContentLength: &n})
		if perr != nil {
			_, err := s.Client.AbortMultipartUpload(context.WithoutCancel(ctx), &s3.AbortMultipartUploadInput{Bucket: &s.Bucket, Key: key, UploadId: begun.UploadId})
			return errors.Join(perr, err)
		}
		parts = append(parts, types.CompletedPart{ETag: part.ETag, PartNumber: &number})
	}
	_, err = s.Client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &s.Bucket, Key: key, UploadId: begun.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	return err
}

// readerAt reads a content at offsets, one call after another.
type readerAt struct{ registry.Content }

// ReadAt implements io.ReaderAt.
func (r readerAt) ReadAt(p []byte, at int64) (int, error) {
	if _, err := r.Seek(at, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r.Content, p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// maxRecord bounds what is read of a record.
const maxRecord = 16 << 20

// PutRecord implements registry.Records.
func (s *Store) PutRecord(ctx context.Context, name string, data []byte) error {
	_, err := s.Client.PutObject(ctx, &s3.PutObjectInput{Bucket: &s.Bucket, Key: aws.String(s.Prefix + "records/" + name), Body: bytes.NewReader(data)})
	return err
}

// DeleteRecord implements registry.Records.
func (s *Store) DeleteRecord(ctx context.Context, name string) error {
	_, err := s.Client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.Bucket, Key: aws.String(s.Prefix + "records/" + name)})
	return err
}

// EachRecord implements registry.Records.
func (s *Store) EachRecord(ctx context.Context, f func(name string, data []byte) error) error {
	return s.list(ctx, "records/", func(o types.Object) error {
		out, err := s.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.Bucket, Key: o.Key})
		if err != nil {
			return err
		}
		defer out.Body.Close()
		data, err := io.ReadAll(io.LimitReader(out.Body, maxRecord))
		if err != nil {
			return err
		}
		return f((*o.Key)[len(s.Prefix+"records/"):], data)
	})
}
