package worker

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/berthdev/berth/internal/serve/scan"
)

// layer is a gzipped archive of files; a name that ends with ! is executable.
func layer(t testing.TB, files map[string]string) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.NoCompression)
	w := tar.NewWriter(z)
	for name, content := range files {
		mode := int64(0o644)
		if n, ok := strings.CutSuffix(name, "!"); ok {
			name, mode = n, 0o755
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: mode, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(content))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_ = z.Close()
	return b.Bytes()
}

func run(t testing.TB, layers ...[]byte) (*scan.Inventory, error) {
	var in, out bytes.Buffer
	for i, l := range layers {
		fmt.Fprintf(&in, `{"digest":"sha256:%d","size":%d}`+"\n", i, len(l))
		in.Write(l)
	}
	if err := Run(&in, &out); err != nil {
		return nil, err
	}
	var inv scan.Inventory
	if err := json.Unmarshal(out.Bytes(), &inv); err != nil {
		t.Fatal(err)
	}
	return &inv, nil
}

func list(inv *scan.Inventory) string {
	var all []string
	for _, p := range inv.Packages {
		all = append(all, p.Ecosystem+"/"+p.Name+"@"+p.Version)
	}
	return strings.Join(all, " ")
}

const status = "Package: libssl3\nStatus: install ok installed\nSource: openssl (3.0.1-1)\nVersion: 3.0.1-1+b1\nDescription: x\n continued: line\n\n" +
	"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: bash\nStatus: install ok installed\nVersion: 5.2-1\n"

func TestPackagesAreFound(t *testing.T) {
	base := layer(t, map[string]string{"./etc/os-release": "ID=debian\nVERSION_ID=\"12\"\n", "var/lib/dpkg/status": status,
		"app/node_modules/left-pad/package.json": `{"name":"left-pad","version":"1.3.0"}`, "app/node_modules/gone/package.json": `{"name":"gone","version":"1"}`,
		"usr/lib/python3/dist-packages/Foo_Bar-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: Foo_Bar\nVersion: 1.0\n\nName: not this\n",
		"var/lib/rpm/rpmdb.sqlite":                                     "x", "broken/node_modules/x/package.json": "{"})
	top := layer(t, map[string]string{"app/node_modules/.wh.gone": "", "app/node_modules/left-pad/package.json": `{"name":"left-pad","version":"1.4.0"}`})
	inv, err := run(t, base, top)
	if err != nil {
		t.Fatal(err)
	}
	want := "Debian:12/bash@5.2-1 Debian:12/openssl@3.0.1-1 PyPI/foo-bar@1.0 npm/left-pad@1.4.0"
	if got := list(inv); got != want || inv.Distribution != "debian 12" || len(inv.Unread) != 1 {
		t.Errorf("got %s (%s, unread %v), want %s", got, inv.Distribution, inv.Unread, want)
	}
	inv, err = run(t, layer(t, map[string]string{"etc/os-release": "ID=alpine\nVERSION_ID=3.20.1\n", "lib/apk/db/installed": "P:libcrypto3\nV:3.3.0-r1\no:openssl\n\nP:musl\nV:1.2.5-r0\n"}))
	if err != nil || list(inv) != "Alpine:v3.20/musl@1.2.5-r0 Alpine:v3.20/openssl@3.3.0-r1" {
		t.Errorf("alpine: %s %v", list(inv), err)
	}
}

func TestModulesOfAProgramAreFound(t *testing.T) {
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	inv, err := run(t, layer(t, map[string]string{"usr/bin/program!": string(self)}))
	if err != nil || !strings.Contains(list(inv), "Go/stdlib@1.") {
		t.Errorf("%s %v", list(inv), err)
	}
}

func TestBrokenLayersAreRefused(t *testing.T) {
	good := layer(t, map[string]string{"var/lib/dpkg/status": status})
	if _, err := run(t, good[:len(good)/2]); err == nil {
		t.Error("half a layer was taken")
	}
	if err := Run(strings.NewReader("junk\n"), new(bytes.Buffer)); err == nil {
		t.Error("junk was taken")
	}
	if err := Run(strings.NewReader(`{"size":-1}`+"\n"), new(bytes.Buffer)); err == nil {
		t.Error("a negative size was taken")
	}
}

func FuzzLayer(f *testing.F) {
	f.Add(layer(f, map[string]string{"etc/os-release": "ID=x", "var/lib/dpkg/status": status, "a/.wh..wh..opq": "", "../../x": ""}))
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = run(t, data) })
}
