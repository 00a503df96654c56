package doctor_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthdev/berth/internal/doctor"
)

func check(t *testing.T, c doctor.Config, name string) doctor.Finding {
	t.Helper()
	for _, f := range doctor.Check(context.Background(), c) {
		if f.Sentence == "" || !strings.HasSuffix(f.Sentence, ".") && f.Grade == doctor.OK {
			t.Errorf("%s: %q is no sentence", f.Name, f.Sentence)
		}
		if f.Grade == doctor.Fail && f.Cure == "" {
			t.Errorf("%s fails without a cure", f.Name)
		}
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("nobody looked at %s", name)
	return doctor.Finding{}
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := doctor.Config{DataDir: t.TempDir(), Listen: l.Addr().String()}
	if f := check(t, c, "port"); f.Grade != doctor.Fail || !strings.Contains(f.Cure, "--listen") {
		t.Errorf("a taken port: %+v", f)
	}
	c.Running = true
	if f := check(t, c, "port"); f.Grade != doctor.OK {
		t.Errorf("Berth's own port: %+v", f)
	}
	l.Close()
	c.Running = false
	if f := check(t, c, "port"); f.Grade != doctor.OK {
		t.Errorf("a free port: %+v", f)
	}
}

func TestChecksLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	check(t, doctor.Config{DataDir: filepath.Join(dir, "not", "yet"), Listen: "127.0.0.1:0"}, "disk")
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
