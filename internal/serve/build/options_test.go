package build

import (
	"os"
	"path/filepath"
	"testing"

	bkclient "github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"
)

func empty() *bkclient.SolveOpt {
	return &bkclient.SolveOpt{FrontendAttrs: map[string]string{}, LocalMounts: map[string]fsutil.FS{}, Exports: []bkclient.ExportEntry{{Attrs: map[string]string{}}}}
}

func TestMoreOptions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := empty()
	m := More{CacheTo: []string{"shop/cache:v1", "type=registry,ref=shop/cache,mode=max"}, CacheFrom: []string{"type=local,src=" + dir}, Epoch: "1700000000", Provenance: true,
		Secrets: []string{"id=one,src=" + file, "id=HOME"}, Contexts: []string{"lib=" + dir, "base=docker-image://localhost:4566/base:v1"}}
	if err := m.add(o, "localhost:4566"); err != nil {
		t.Fatal(err)
	}
	if len(o.CacheExports) != 2 || o.CacheExports[0].Type != "registry" || o.CacheExports[0].Attrs["ref"] != "localhost:4566/shop/cache:v1" ||
		o.CacheExports[1].Attrs["ref"] != "localhost:4566/shop/cache:latest" || o.CacheExports[1].Attrs["mode"] != "max" || o.CacheImports[0].Type != "local" {
		t.Errorf("caches %+v %+v", o.CacheExports, o.CacheImports)
	}
	a := o.FrontendAttrs
	if a["context:lib"] != "local:context-lib" || a["context:base"] != "docker-image://localhost:4566/base:v1" || o.LocalMounts["context-lib"] == nil ||
		a["build-arg:SOURCE_DATE_EPOCH"] != "1700000000" || o.Exports[0].Attrs["rewrite-timestamp"] != "true" || a["attest:provenance"] != "mode=max" || len(o.Session) != 1 {
		t.Errorf("%+v %+v %d", a, o.Exports, len(o.Session))
	}
	for name, bad := range map[string]More{"cache type": {CacheTo: []string{"type=s3"}}, "cache elsewhere": {CacheTo: []string{"docker.io/x/y"}}, "cache ref": {CacheFrom: []string{"type=registry"}},
		"secret": {Secrets: []string{"x"}}, "secret file": {Secrets: []string{"id=x,src=/none"}}, "context": {Contexts: []string{"x"}}, "context dir": {Contexts: []string{"x=/none/at/all"}},
		"ssh": {SSH: []string{"default=/none/at/all"}}} {
		if err := bad.add(empty(), "localhost:4566"); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
