package objects

import (
	"context"
	"crypto/md5" // S3's ETag
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/rclone/gofakes3"

	"github.com/berthdev/berth/internal/model"
)

// An upload is a folder: its metadata, and each part's bytes and MD5. It lives as long as the process, which alone knows of it.

var uploadPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (o *Objects) upload(id gofakes3.UploadID, file string) (string, error) {
	if !uploadPattern.MatchString(string(id)) {
		return "", gofakes3.ErrNoSuchUpload
	}
	return o.path("uploads", string(id), file), nil
}

// CreateMultipartUpload implements gofakes3.MultipartBackend.
func (o *Objects) CreateMultipartUpload(ctx context.Context, bucket, _ string, meta map[string]string) (gofakes3.UploadID, error) {
	if ok, _ := o.BucketExists(ctx, bucket); !ok {
		return "", gofakes3.BucketNotFound(bucket)
	}
	id := randomName()
	if err := os.Mkdir(o.path("uploads", id), 0o700); err != nil {
		return "", err
	}
	data, err := json.Marshal(meta)
	if err == nil {
		err = os.WriteFile(o.path("uploads", id, "meta"), data, 0o600)
	}
	return gofakes3.UploadID(id), err
}

// UploadPart implements gofakes3.MultipartBackend. A part that is sent again replaces the one before.
func (o *Objects) UploadPart(_ context.Context, _, _ string, id gofakes3.UploadID, number int, length int64, body io.Reader) (string, error) {
	temporary, err := o.upload(id, randomName()+".new")
	if err != nil {
		return "", err
	}
	sum := md5.New()
	n, err := writeFile(temporary, io.TeeReader(body, sum))
	if errors.Is(err, fs.ErrNotExist) {
		return "", gofakes3.ErrNoSuchUpload
	}
	if err != nil {
		return "", err
	}
	if length >= 0 && n != length {
		_ = os.Remove(temporary) // or Open does
		return "", gofakes3.ErrIncompleteBody
	}
	name, _ := o.upload(id, fmt.Sprintf("part-%d-%x", number, sum.Sum(nil)))
	return etag(sum.Sum(nil)), os.Rename(temporary, name)
}

// CompleteMultipartUpload implements gofakes3.MultipartBackend. The ETag is the MD5 of the whole, as for an object that was sent at once.
func (o *Objects) CompleteMultipartUpload(ctx context.Context, bucket, name string, id gofakes3.UploadID, in *gofakes3.CompleteMultipartUploadRequest) (gofakes3.VersionID, string, error) {
	metaFile, err := o.upload(id, "meta")
	if err != nil {
		return "", "", err
	}
	data, err := os.ReadFile(metaFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", gofakes3.ErrNoSuchUpload
	}
	row := &model.S3Object{Bucket: bucket, Name: name}
	if err == nil {
		err = json.Unmarshal(data, &row.Meta)
	}
	if err != nil {
		return "", "", err
	}
	var parts []string
	last := 0
	for _, p := range in.Parts {
		sum := strings.Trim(p.ETag, `"`)
		if _, err := hex.DecodeString(sum); err != nil || len(sum) != 2*md5.Size {
			return "", "", gofakes3.ErrInvalidPart
		}
		part, _ := o.upload(id, fmt.Sprintf("part-%d-%s", p.PartNumber, sum))
		st, err := os.Stat(part)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", "", gofakes3.ErrInvalidPart
		case err != nil:
			return "", "", err
		case p.PartNumber <= last:
			return "", "", gofakes3.ErrInvalidPartOrder
		}
		last = p.PartNumber
		parts, row.Parts = append(parts, part), append(row.Parts, st.Size())
	}
	if err := o.write(row, &chain{files: parts}); err != nil {
		return "", "", err
	}
	if err := o.put(ctx, row); err != nil {
		return "", "", err
	}
	return "", etag(row.MD5), os.RemoveAll(o.path("uploads", string(id)))
}

// AbortMultipartUpload implements gofakes3.MultipartBackend.
func (o *Objects) AbortMultipartUpload(_ context.Context, _, _ string, id gofakes3.UploadID) error {
	if _, err := o.upload(id, ""); err != nil {
		return err
	}
	return os.RemoveAll(o.path("uploads", string(id)))
}

// chain reads files one after another, of which one is open at a time.
type chain struct {
	files []string
	open  *os.File
}

// Read implements io.Reader.
func (c *chain) Read(p []byte) (int, error) {
	for {
		if c.open == nil {
			if len(c.files) == 0 {
				return 0, io.EOF
			}
			f, err := os.Open(c.files[0])
			if err != nil {
				return 0, err
			}
			c.open, c.files = f, c.files[1:]
		}
		n, err := c.open.Read(p)
		if n > 0 || err == nil {
			return n, nil
		}
		if close := c.open.Close(); err != io.EOF {
			return 0, errors.Join(err, close)
		}
		c.open = nil
	}
}
