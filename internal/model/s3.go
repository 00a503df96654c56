package model

import "time"

// S3Bucket is a bucket. Written by serve/objects, for the S3 API.
type S3Bucket struct {
	Name      string
	CreatedAt time.Time
}

// Key is the name.
func (b *S3Bucket) Key() string { return b.Name }

// S3Object is an object of a bucket; its bytes are a file. Written by serve/objects, for the S3 API.
type S3Object struct {
	Bucket string
	Name   string // S3's key
	File   string // the name of the file with its bytes, which is never changed
	Size   int64
	MD5    []byte
	Meta   map[string]string // the headers that it was stored with
	Parts  []int64           // sizes of the parts that it was sent in
	At     time.Time
}

// Key is <bucket>/<name>.
func (o *S3Object) Key() string { return o.Bucket + "/" + o.Name }
