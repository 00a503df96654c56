package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/api/s3"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/objects"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var ctx = context.Background()

const bucket = "state"

// door lets in the key AKID and writes down what is asked.
type door struct {
	mu    sync.Mutex
	asked []string
	deny  string // an action
}

func (d *door) Secret(id, _ string) (string, wire.Caller, error) {
	if id != "AKID" {
		return "", wire.Caller{}, model.Errorf("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	return "secret", wire.Caller{Account: "000000000000"}, nil
}

func (d *door) Allow(_ wire.Caller, ask wire.Ask) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, ask.Action+" "+strings.Join(ask.Resources, " "))
	if ask.Action == d.deny {
		return model.Errorf("AccessDeniedException", "User: x is not authorized to perform: %s", ask.Action)
	}
	return nil
}

type fixture struct {
	*sdk.Client
	t     *testing.T
	door  *door
	dir   string
	store store.Store
	url   string
	files *objects.Objects
}

func setup(t *testing.T) *fixture {
	f := &fixture{t: t, door: &door{}, dir: t.TempDir(), store: mem.New(store.Schema())}
	var err error
	if f.files, err = objects.Open(f.dir, f.store, time.Now); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s3.New(s3.Config{Objects: f.files, Keys: f.door, Access: f.door, Now: time.Now}))
	t.Cleanup(srv.Close)
	f.url = srv.URL
	f.Client = f.client("AKID", "secret")
	f.must(f.CreateBucket(ctx, &sdk.CreateBucketInput{Bucket: new(bucket)}))
	return f
}

func (f *fixture) client(id, secret string) *sdk.Client {
	return sdk.NewFromConfig(aws.Config{Region: "eu-north-1", BaseEndpoint: &f.url, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, "")}, func(o *sdk.Options) { o.UsePathStyle = true })
}

func (f *fixture) must(_ any, err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) put(key, text string) {
	f.t.Helper()
	f.must(f.PutObject(ctx, &sdk.PutObjectInput{Bucket: new(bucket), Key: &key, Body: strings.NewReader(text)}))
}

func (f *fixture) get(in sdk.GetObjectInput) string {
	f.t.Helper()
	in.Bucket = new(bucket)
	out, err := f.GetObject(ctx, &in)
	if err != nil {
		f.t.Fatal(err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	f.must(nil, err)
	return string(data)
}

func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func TestObjects(t *testing.T) {
	f := setup(t)
	odd := "a folder/with spaces & ü/x+y=z?.env"
	f.put(odd, "hello world")
	if got := f.get(sdk.GetObjectInput{Key: &odd}); got != "hello world" {
		t.Errorf("%q", got)
	}
	if got := f.get(sdk.GetObjectInput{Key: &odd, Range: new("bytes=6-8")}); got != "wor" {
		t.Errorf("a range: %q", got)
	}
	head, err := f.HeadObject(ctx, &sdk.HeadObjectInput{Bucket: new(bucket), Key: &odd})
	if err != nil || *head.ContentLength != 11 || *head.ETag != `"5eb63bbbe01eeed093cb22bb8f5acdc3"` {
		t.Errorf("%+v %v", head, err)
	}
	f.must(f.CopyObject(ctx, &sdk.CopyObjectInput{Bucket: new(bucket), Key: new("copy"), CopySource: new(bucket + "/" + strings.ReplaceAll(url.QueryEscape(odd), "+", "%20"))}))
	if got := f.get(sdk.GetObjectInput{Key: new("copy")}); got != "hello world" {
		t.Errorf("a copy: %q", got)
	}
	f.put(odd, "replaced")
	if n := len(f.onDisk()); n != 2 {
		t.Errorf("%d files for two objects", n)
	}
	_, err = f.GetObject(ctx, &sdk.GetObjectInput{Bucket: new(bucket), Key: new("none")})
	if code(err) != "NoSuchKey" {
		t.Error(err)
	}
	_, err = f.DeleteBucket(ctx, &sdk.DeleteBucketInput{Bucket: new(bucket)})
	if code(err) != "BucketNotEmpty" {
		t.Error(err)
	}
	out, err := f.DeleteObjects(ctx, &sdk.DeleteObjectsInput{Bucket: new(bucket), Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: &odd}, {Key: new("copy")}}}})
	if err != nil || len(out.Deleted) != 2 || len(f.onDisk()) != 0 {
		t.Errorf("%+v %v, %d files", out, err, len(f.onDisk()))
	}
	f.must(f.DeleteBucket(ctx, &sdk.DeleteBucketInput{Bucket: new(bucket)}))
	_, err = f.HeadBucket(ctx, &sdk.HeadBucketInput{Bucket: new(bucket)})
	if err == nil {
		t.Error("a bucket that was deleted")
	}
}

func (f *fixture) onDisk() (all []string) {
	_ = filepath.WalkDir(filepath.Join(f.dir, "files"), func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, name)
		}
		return err
	})
	return all
}

func TestLists(t *testing.T) {
	f := setup(t)
	for _, k := range []string{"a", "b/1", "b/2", "b/c/3", "d"} {
		f.put(k, "x")
	}
	list := func(prefix, delimiter string) (names []string) {
		t.Helper()
		pages := sdk.NewListObjectsV2Paginator(f.Client, &sdk.ListObjectsV2Input{Bucket: new(bucket), Prefix: &prefix, Delimiter: &delimiter, MaxKeys: new(int32(1))})
		for pages.HasMorePages() && len(names) < 20 {
			out, err := pages.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range out.Contents {
				names = append(names, *o.Key)
			}
			for _, p := range out.CommonPrefixes {
				names = append(names, *p.Prefix)
			}
		}
		return names
	}
	for _, c := range []struct {
		prefix, delimiter string
		want              []string
	}{{"", "", []string{"a", "b/1", "b/2", "b/c/3", "d"}}, {"", "/", []string{"a", "b/", "d"}}, {"b/", "/", []string{"b/1", "b/2", "b/c/"}}, {"none", "", nil}} {
		if got := list(c.prefix, c.delimiter); !slices.Equal(got, c.want) {
			t.Errorf("%q by %q: %q, want %q", c.prefix, c.delimiter, got, c.want)
		}
	}
	old, err := f.ListObjects(ctx, &sdk.ListObjectsInput{Bucket: new(bucket), Marker: new("b/1")})
	if err != nil || len(old.Contents) != 3 {
		t.Errorf("version 1: %+v %v", old, err)
	}
}

// TestOneOfManyWritersWins: Terraform's lock is an object that is written if it is not there.
func TestOneOfManyWritersWins(t *testing.T) {
	f := setup(t)
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			_, err := f.PutObject(ctx, &sdk.PutObjectInput{Bucket: new(bucket), Key: new("x.tflock"), Body: strings.NewReader(fmt.Sprint(i)), IfNoneMatch: new("*")})
			if err == nil {
				won.Add(1)
			} else if c := code(err); c != "PreconditionFailed" {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || len(f.onDisk()) != 1 {
		t.Errorf("%d writers won, %d files", won.Load(), len(f.onDisk()))
	}
}

func TestMultipart(t *testing.T) {
	f := setup(t)
	up, err := f.CreateMultipartUpload(ctx, &sdk.CreateMultipartUploadInput{Bucket: new(bucket), Key: new("large"), ContentType: new("text/x")})
	f.must(nil, err)
	var done types.CompletedMultipartUpload
	for i, size := range []int{5 << 20, 5 << 20, 17} {
		part, err := f.UploadPart(ctx, &sdk.UploadPartInput{Bucket: new(bucket), Key: new("large"), UploadId: up.UploadId, PartNumber: new(int32(i + 1)),
			Body: bytes.NewReader(bytes.Repeat([]byte{byte('a' + i)}, size))})
		f.must(nil, err)
		done.Parts = append(done.Parts, types.CompletedPart{PartNumber: new(int32(i + 1)), ETag: part.ETag})
	}
	f.must(f.CompleteMultipartUpload(ctx, &sdk.CompleteMultipartUploadInput{Bucket: new(bucket), Key: new("large"), UploadId: up.UploadId, MultipartUpload: &done}))
	if got := f.get(sdk.GetObjectInput{Key: new("large")}); len(got) != 10<<20+17 || got[0] != 'a' || got[5<<20] != 'b' || got[10<<20] != 'c' {
		t.Errorf("%d bytes", len(got))
	}
	left, _ := os.ReadDir(filepath.Join(f.dir, "uploads"))
	if len(left) != 0 {
		t.Errorf("%d uploads are left", len(left))
	}
	up, err = f.CreateMultipartUpload(ctx, &sdk.CreateMultipartUploadInput{Bucket: new(bucket), Key: new("given up")})
	f.must(nil, err)
	f.must(f.AbortMultipartUpload(ctx, &sdk.AbortMultipartUploadInput{Bucket: new(bucket), Key: new("given up"), UploadId: up.UploadId}))
}

func TestPresigned(t *testing.T) {
	f := setup(t)
	f.put("a b", "text")
	signed, err := sdk.NewPresignClient(f.Client).PresignGetObject(ctx, &sdk.GetObjectInput{Bucket: new(bucket), Key: new("a b")})
	f.must(nil, err)
	read := func(url string) (int, string) {
		t.Helper()
		r, err := http.Get(url)
		f.must(nil, err)
		defer r.Body.Close()
		data, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(data)
	}
	if status, text := read(signed.URL); status != 200 || text != "text" {
		t.Errorf("%d %s", status, text)
	}
	if status, text := read(strings.Replace(signed.URL, "a%20b", "a%20c", 1)); status != 403 || !strings.Contains(text, "SignatureDoesNotMatch") {
		t.Errorf("another object: %d %s", status, text)
	}
	if status, _ := read(f.url + "/" + bucket + "/a%20b"); status != 403 {
		t.Errorf("unsigned: %d", status)
	}
}

func TestWhoMayWhat(t *testing.T) {
	f := setup(t)
	f.put("x", "1")
	f.door.deny = "s3:GetObject"
	_, err := f.GetObject(ctx, &sdk.GetObjectInput{Bucket: new(bucket), Key: new("x")})
	if code(err) != "AccessDenied" {
		t.Error(err)
	}
	_, err = f.CopyObject(ctx, &sdk.CopyObjectInput{Bucket: new(bucket), Key: new("y"), CopySource: new(bucket + "/x")})
	if code(err) != "AccessDenied" {
		t.Errorf("a copy reads: %v", err)
	}
	f.door.deny, f.door.asked = "s3:DeleteObject", nil
	_, err = f.DeleteObjects(ctx, &sdk.DeleteObjectsInput{Bucket: new(bucket), Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: new("x")}, {Key: new("z")}}}})
	if want := []string{"s3:DeleteObject arn:aws:s3:::state/x arn:aws:s3:::state/z"}; code(err) != "AccessDenied" || !slices.Equal(f.door.asked, want) {
		t.Errorf("%v %q", err, f.door.asked)
	}
	_, err = f.client("AKID", "wrong").ListBuckets(ctx, &sdk.ListBucketsInput{})
	if code(err) != "SignatureDoesNotMatch" {
		t.Error(err)
	}
	_, err = f.client("NOBODY", "x").ListBuckets(ctx, &sdk.ListBucketsInput{})
	if code(err) != "InvalidAccessKeyId" {
		t.Error(err)
	}
}

// TestAChangedBodyIsNotStored: the body is not the one whose hash was signed.
func TestAChangedBodyIsNotStored(t *testing.T) {
	f := setup(t)
	swap := f.client("AKID", "secret")
	_, err := swap.PutObject(ctx, &sdk.PutObjectInput{Bucket: new(bucket), Key: new("x"), Body: strings.NewReader("good")}, func(o *sdk.Options) {
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.HTTPClient = changing{}
	})
	if err == nil {
		t.Error("it was stored")
	}
	if len(f.onDisk()) != 0 {
		t.Error("a file is left")
	}
}

type changing struct{}

func (changing) Do(r *http.Request) (*http.Response, error) {
	r.Body = io.NopCloser(strings.NewReader("evil"))
	return http.DefaultClient.Do(r)
}

func TestSweep(t *testing.T) {
	f := setup(t)
	f.put("x", "1")
	stray := filepath.Join(f.dir, "files", "zz")
	f.must(nil, os.WriteFile(stray, []byte("x"), 0o600))
	f.must(nil, f.files.Sweep(time.Now().Add(time.Minute)))
	if got := f.onDisk(); len(got) != 1 || got[0] == stray {
		t.Error(got)
	}
}
