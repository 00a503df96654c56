package app

import (
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
)

func TestTheVPCIsChosenOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "berth")
	for _, bad := range []string{"10.0.0.0/8", "8.8.0.0/16", "10.1.2.3/16", "fd00::/16", "x"} {
		_, err := openInstance(Config{DataDir: filepath.Join(t.TempDir(), "b"), VPCCIDR: bad})
		if e, ok := errors.AsType[*SettingError](err); !ok || e.Flag != "vpc-cidr" {
			t.Errorf("%s: %v", bad, err)
		}
	}
	in, err := openInstance(Config{DataDir: dir, VPCCIDR: "10.7.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := in.network(in.Scope()); err != nil || n.Subnets[0].CIDR != "10.7.0.0/20" {
		t.Errorf("clients see %+v (%v)", n, err)
	}
	if got := in.networkConfig(slog.Default()).Subnet.String(); got != "10.7.0.0/16" {
		t.Errorf("tasks are given addresses of %s", got)
	}
	if in, err = openInstance(Config{DataDir: dir}); err != nil || in.VPCCIDR != "10.7.0.0/16" {
		t.Errorf("the next start finds %+v (%v)", in, err)
	}
	if _, err := openInstance(Config{DataDir: dir, VPCCIDR: "10.8.0.0/16"}); err == nil {
		t.Error("a VPC was exchanged under its tasks")
	}
	plain, err := openInstance(Config{DataDir: filepath.Join(t.TempDir(), "plain")})
	if err != nil || plain.networkConfig(slog.Default()).Subnet.IsValid() {
		t.Errorf("a plain start chooses %+v (%v)", plain, err)
	}
}
