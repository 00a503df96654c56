package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

func noPath(string) (string, error) { return "", os.ErrNotExist }

func programs(runc, shim string) fstest.MapFS {
	return fstest.MapFS{"bin/README": {Data: []byte("x")}, "bin/" + RuncName: {Data: []byte(runc)},
		"bin/" + ShimName: {Data: []byte(shim)}}
}

func TestUnpackWritesVersionedFolders(t *testing.T) {
	dir := t.TempDir()
	first, err := unpack(programs("one", "shim"), dir, noPath)
	if err != nil {
		t.Fatal(err)
	}
	again, err := unpack(programs("one", "shim"), dir, noPath)
	if err != nil || again != first {
		t.Fatalf("unpacked again to %+v (%v), want %+v", again, err, first)
	}
	second, err := unpack(programs("longer", "shim"), dir, noPath)
	if err != nil {
		t.Fatal(err)
	}
	if second.Runc == first.Runc {
		t.Fatal("another version of runc replaced the one that containers may use")
	}
	for path, want := range map[string]string{first.Runc: "one", first.Shim: "shim", second.Runc: "longer"} {
		data, err := os.ReadFile(path)
		if err != nil || string(data) != want {
			t.Errorf("%s holds %q (%v), want %q", path, data, err, want)
		}
		if info, _ := os.Stat(path); info.Mode().Perm() != 0o755 {
			t.Errorf("%s has mode %v, want 0755", path, info.Mode())
		}
	}
}

func TestUnpackRepairsWhatWasDamaged(t *testing.T) {
	dir := t.TempDir()
	b, err := unpack(programs("one", "shim"), dir, noPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(b.Runc, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(programs("one", "shim"), dir, noPath); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(b.Runc); string(data) != "one" {
		t.Fatalf("runc holds %q after unpacking again", data)
	}
}

func TestUnpackFallsBackToPath(t *testing.T) {
	empty := fstest.MapFS{"bin/README": {Data: []byte("x")}}
	if _, err := unpack(empty, t.TempDir(), noPath); !errors.Is(err, ErrMissing) {
		t.Fatalf("got %v, want ErrMissing", err)
	}
	dir := t.TempDir()
	b, err := unpack(empty, t.TempDir(), func(name string) (string, error) { return filepath.Join(dir, name), nil })
	if err != nil || b.Embedded || b.Runc != filepath.Join(dir, RuncName) || b.Shim != filepath.Join(dir, ShimName) {
		t.Fatalf("got %+v, %v", b, err)
	}
}
