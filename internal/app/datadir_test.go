package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheDataDirectoryIsOursAlone: a directory that others may read is closed when it is Berth's, and refused when it is not.
func TestTheDataDirectoryIsOursAlone(t *testing.T) {
	mode := func(dir string) os.FileMode {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	open := func(name string, files ...string) string {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(dir, f), []byte("{}"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for name, dir := range map[string]string{"an empty one": open("a"), "a Berth's": open("b", "instance.json"),
		"a new one": filepath.Join(t.TempDir(), "x", "y")} {
		if err := claimDir(dir); err != nil || mode(dir) != 0o700 {
			t.Errorf("%s: %v, mode %04o", name, err, mode(dir))
		}
	}
	strange := open("c", "letters.txt")
	if err := claimDir(strange); err == nil || !strings.Contains(err.Error(), "not Berth's") || mode(strange) != 0o755 {
		t.Errorf("one with other things in it: %v, mode %04o", err, mode(strange))
	}
	if os.Geteuid() != 0 {
		return // only root can give directories away
	}
	other := open("d")
	if err := os.Chown(other, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(open("e"), link); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(link, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"another's": other, "another's link": link} {
		if err := claimDir(dir); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
