package quota

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/quota/quotatest"
)

func TestTheKernelsStructuresHaveItsSizes(t *testing.T) {
	for name, s := range map[string]struct{ have, want uintptr }{
		"if_dqblk": {unsafe.Sizeof(ifDqblk{}), 72}, "fs_quota_statv": {unsafe.Sizeof(fsQuotaStatv{}), 160},
		"fsxattr": {unsafe.Sizeof(fsxattr{}), 28},
	} {
		if s.have != s.want {
			t.Errorf("struct %s has %d bytes, want %d", name, s.have, s.want)
		}
	}
}

func TestAFileSystemWithoutQuotasSaysSo(t *testing.T) {
	if _, err := Detect("/proc"); err == nil {
		t.Error("/proc has project quotas")
	}
	if _, err := (&Kernel{"/proc"}).Project(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

func TestTheKernelHoldsTheBound(t *testing.T) {
	root := quotatest.Mount(t, 64<<20)
	k, err := Detect(root)
	if err != nil {
		t.Fatal(err)
	}
	const id, bound = firstID + 5, 1 << 20
	dir := filepath.Join(root, "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.Limit(id, bound), k.Tag(dir, id), k.Tag(dir, id)); err != nil {
		t.Fatal(err)
	}
	if p, err := k.Project(dir); p != id || err != nil {
		t.Fatalf("the directory's project is %#x, %v", p, err)
	}
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	if p, err := k.Project(below); p != id || err != nil {
		t.Fatalf("the project of a directory below is %#x, %v", p, err)
	}
	if err := os.WriteFile(filepath.Join(below, "half"), make([]byte, bound/2), 0o600); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	if used, limit, err := k.Usage(id); used < bound/2 || used > bound || limit != bound || err != nil {
		t.Errorf("usage %d of %d, %v", used, limit, err)
	}
	if err := errors.Join(os.RemoveAll(dir), k.Limit(id, 0)); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	if used, limit, err := k.Usage(id); used != 0 || limit != 0 || err != nil {
		t.Errorf("usage %d of %d is left, %v", used, limit, err)
	}
}
