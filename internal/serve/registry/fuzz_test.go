package registry

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzManifest feeds what strangers may push: it is taken or refused by name, and what is taken names digests only.
func FuzzManifest(f *testing.F) {
	f.Add("application/vnd.oci.image.manifest.v1+json", []byte(`{"config":{"digest":"sha256:`+strings.Repeat("0", 64)+`"},"layers":[]}`))
	f.Add("application/vnd.oci.image.index.v1+json", []byte(`{"manifests":[{"digest":"x"}],"subject":{}}`))
	f.Add("", []byte(`{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[{}]}`))
	f.Fuzz(func(t *testing.T, mediaType string, content []byte) {
		img, _, err := parseManifest(mediaType, content)
		if err != nil {
			if _, ok := err.(*Error); !ok {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		for _, d := range append(append([]string{}, img.Blobs...), img.Children...) {
			if !digestPattern.MatchString(d) {
				t.Fatalf("took the digest %q", d)
			}
		}
		if img.Subject != "" && !digestPattern.MatchString(img.Subject) || img.Size < 0 {
			t.Fatalf("took %+v", img)
		}
	})
}

// FuzzReference feeds tags and digests.
func FuzzReference(f *testing.F) {
	f.Add("v1")
	f.Add("sha256:" + strings.Repeat("a", 64))
	f.Add("../../etc/passwd")
	f.Fuzz(func(t *testing.T, reference string) {
		tag, dgst, err := identify(reference, nil)
		if err == nil && (strings.ContainsAny(tag, "/:\\") || !digestPattern.MatchString(dgst)) {
			t.Fatalf("%q is tag %q, digest %q", reference, tag, dgst)
		}
	})
}

// FuzzContentRange feeds where chunks claim to start.
func FuzzContentRange(f *testing.F) {
	f.Add("0-9", int64(10))
	f.Add("bytes 5-1", int64(-1))
	f.Add("9223372036854775807-9223372036854775807", int64(1))
	f.Fuzz(func(t *testing.T, header string, length int64) {
		req := httptest.NewRequest("PATCH", "/", nil)
		req.Header["Content-Range"], req.ContentLength = []string{header}, length
		if start, err := chunkStart(req); err == nil && start < -1 {
			t.Fatalf("%q starts at %d", header, start)
		}
	})
}
