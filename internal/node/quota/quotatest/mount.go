// Package quotatest gives tests a file system with project quotas.
package quotatest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Mount makes an ext4 of so many bytes with project quotas, mounted for the time of the test. The test is skipped, with the reason, where
// that cannot be: without root, mkfs.ext4, a loop device, or a kernel with CONFIG_QFMT_V2.
func Mount(t testing.TB, bytes int64) (dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a file system with project quotas")
	}
	base := t.TempDir()
	image, dir := filepath.Join(base, "disk"), filepath.Join(base, "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, bytes); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-I", "256", "-O", "quota,project", "-E", "quotatype=prjquota", image).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: mkfs.ext4 (e2fsprogs) cannot make a disk with project quotas: %v %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,prjquota", image, dir).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: this kernel cannot mount ext4 with project quotas (CONFIG_QFMT_V2, a loop device): %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}
