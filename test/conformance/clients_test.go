package conformance

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	randomimage "github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// TestOras copies an artifact that refers to another in and out with everything that hangs on it.
func TestOras(t *testing.T) {
	ctx, h := context.Background(), serve(t)
	repo, err := remote.NewRepository(strings.TrimPrefix(h.url, "http://") + "/one")
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	repo.Client = &auth.Client{Credential: auth.StaticCredential(repo.Reference.Registry, auth.Credential{Username: "AWS", Password: "secret"})}
	local := memory.New()
	pack := func(subject *ocispec.Descriptor, kind string) ocispec.Descriptor {
		data := []byte(kind)
		blob := content.NewDescriptorFromBytes("application/x", data)
		if err := local.Push(ctx, blob, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		d, err := oras.PackManifest(ctx, local, oras.PackManifestVersion1_1, kind, oras.PackManifestOptions{Subject: subject, Layers: []ocispec.Descriptor{blob}})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	subject := pack(nil, "application/x.subject")
	signature := pack(&subject, "application/x.signature")
	if err := local.Tag(ctx, subject, "v1"); err != nil {
		t.Fatal(err)
	}
	if _, err := oras.ExtendedCopy(ctx, local, "v1", repo, "v1", oras.DefaultExtendedCopyOptions); err != nil {
		t.Fatal(err)
	}
	var found []ocispec.Descriptor
	err = repo.Referrers(ctx, subject, "application/x.signature", func(d []ocispec.Descriptor) error { found = append(found, d...); return nil })
	if err != nil || len(found) != 1 || found[0].Digest != signature.Digest {
		t.Errorf("referrers %v %v", found, err)
	}
	back := memory.New()
	if d, err := oras.Copy(ctx, repo, "v1", back, "v1", oras.DefaultCopyOptions); err != nil || d.Digest != subject.Digest {
		t.Errorf("copied back %v %v", d, err)
	}
	if err := repo.Delete(ctx, signature); err != nil {
		t.Error(err)
	}
}

// TestCrane pushes, lists, copies and pulls with crane's own library.
func TestCrane(t *testing.T) {
	h := serve(t)
	host := strings.TrimPrefix(h.url, "http://")
	login := crane.WithAuth(&authn.Basic{Username: "AWS", Password: "secret"})
	img, err := randomimage.Image(1<<16, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(img, host+"/one:v1", login, crane.Insecure); err != nil {
		t.Fatal(err)
	}
	if err := crane.Copy(host+"/one:v1", host+"/two/deep:v2", login, crane.Insecure); err != nil {
		t.Fatal(err)
	}
	if tags, err := crane.ListTags(host+"/two/deep", login, crane.Insecure); err != nil || len(tags) != 1 || tags[0] != "v2" {
		t.Errorf("tags %v %v", tags, err)
	}
	got, err := crane.Pull(host+"/two/deep:v2", login, crane.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
	if names, err := crane.Catalog(host, login, crane.Insecure); err != nil || len(names) != 2 {
		t.Errorf("catalog %v %v", names, err)
	}
}
