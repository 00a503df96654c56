// Package deploy tests what people install Berth with: deploy/install.sh, the units and the examples.
package deploy

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const script = "../../deploy/install.sh"

// archive makes what `make dist` would, with a berth that says its version only.
func archive(t *testing.T, version string) (file string) {
	t.Helper()
	dir := t.TempDir()
	name := fmt.Sprintf("berth_%s_linux_%s", version, runtime.GOARCH)
	folder := filepath.Join(dir, name)
	if err := os.CopyFS(filepath.Join(folder, "systemd"), os.DirFS("../../deploy/systemd")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "berth"), []byte("#!/bin/sh\necho berth "+version+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, name+".tar.gz")
	if out, err := exec.Command("tar", "-czf", file, "-C", dir, name).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	sums(t, file)
	return file
}

// sums writes SHA256SUMS beside the file.
func sums(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("%x  %s\n", sha256.Sum256(data), filepath.Base(file))
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "SHA256SUMS"), []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
}

// install runs the script against an empty root and returns what is in that.
func install(t *testing.T, root string, args ...string) (said string, err error) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "DESTDIR="+root)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestInstallFromAFile(t *testing.T) {
	root := t.TempDir()
	if said, err := install(t, root, "--from", archive(t, "1.2.3"), "node", "--join", "berth://10.0.0.1:4567/bt1n-x", "--zone", "a"); err != nil || !strings.Contains(said, "installed berth 1.2.3") {
		t.Fatalf("%v: %s", err, said)
	}
	options, err := os.ReadFile(root + "/etc/default/berth-node")
	if err != nil || !strings.Contains(string(options), `BERTH_OPTIONS="--join berth://10.0.0.1:4567/bt1n-x --zone a"`) {
		t.Errorf("options %q, %v", options, err)
	}
	if info, err := os.Stat(root + "/etc/default/berth-node"); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the join token is readable by others: %v, %v", info.Mode(), err)
	}
	for _, unit := range []string{"berth", "berth-server", "berth-node"} {
		data, err := os.ReadFile(root + "/lib/systemd/system/" + unit + ".service")
		if err != nil || !strings.Contains(string(data), "KillMode=process") { // else a restart of the unit ends what it serves
			t.Errorf("%s: %v", unit, err)
		}
	}
	if said, err := install(t, root, "--from", archive(t, "1.2.4"), "node"); err != nil {
		t.Fatalf("upgrade: %v: %s", err, said)
	}
	if again, _ := os.ReadFile(root + "/etc/default/berth-node"); string(again) != string(options) {
		t.Errorf("the upgrade changed the options to %q", again)
	}
	if out, err := exec.Command(root+"/usr/bin/berth", "version").Output(); err != nil || string(out) != "berth 1.2.4\n" {
		t.Errorf("after the upgrade: %q, %v", out, err)
	}
}

// TestInstallRefuses: whatever is wrong, one sentence says so and nothing is changed.
func TestInstallRefuses(t *testing.T) {
	changed := archive(t, "1.0.0")
	if err := os.Truncate(changed, 100); err != nil {
		t.Fatal(err)
	}
	bare := archive(t, "1.0.0")
	if err := os.Remove(filepath.Join(filepath.Dir(bare), "SHA256SUMS")); err != nil {
		t.Fatal(err)
	}
	unnamed := archive(t, "1.0.0")
	if err := os.WriteFile(filepath.Join(filepath.Dir(unnamed), "SHA256SUMS"), []byte("0  other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a changed archive":       {[]string{"--from", changed}, "nothing was installed"},
		"no checksums":            {[]string{"--from", bare}, "SHA256SUMS is missing"},
		"checksums of others":     {[]string{"--from", unnamed}, "does not name"},
		"no such file":            {[]string{"--from", "/nowhere.tar.gz"}, "is no file"},
		"an unknown word":         {[]string{"--form", "x"}, "unknown argument '--form'"},
		"an option without value": {[]string{"--from"}, "install.sh --version"},
	} {
		root := t.TempDir()
		said, err := install(t, root, c.args...)
		if err == nil || !strings.Contains(said, c.want) {
			t.Errorf("%s: %v: %s", name, err, said)
		}
		if left, _ := os.ReadDir(root); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}
