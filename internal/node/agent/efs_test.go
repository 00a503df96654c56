package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/fake"
)

func onEFS(volume types.EFSVolumeConfiguration) types.TaskDefinition {
	def := define(types.NetworkModeNone, container("web", "serve", func(c *types.ContainerDefinition) {
		c.MountPoints = []types.MountPoint{{SourceVolume: new("shared"), ContainerPath: new("/data")}}
	}))
	def.Volumes = []types.Volume{{Name: new("shared"), EfsVolumeConfiguration: &volume}}
	return def
}

// TestEFS: a directory of the machine stands for a file system, and what nothing stands for is named.
func TestEFS(t *testing.T) {
	shared := t.TempDir()
	for _, dir := range []string{"a/b", "point"} {
		if err := os.MkdirAll(filepath.Join(shared, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(shared, "link")); err != nil {
		t.Fatal(err)
	}
	inBubble(t, fake.Config{}, func(r *rig) {
		r.kill()
		r.cfg.FileSystems = func() (map[string]string, error) {
			return map[string]string{"fs-1": shared, "fsap-1": filepath.Join(shared, "point"), "fs-nfs": "nfs://10.0.0.9:2050/export"}, nil
		}
		r.boot()
		for _, c := range []struct {
			volume types.EFSVolumeConfiguration
			want   agent.Mount
		}{
			{types.EFSVolumeConfiguration{FileSystemId: new("fs-1")}, agent.Mount{Type: "bind", Source: shared}},
			{types.EFSVolumeConfiguration{FileSystemId: new("fs-1"), RootDirectory: new("/a/b")}, agent.Mount{Type: "bind", Source: filepath.Join(shared, "a/b")}},
			{types.EFSVolumeConfiguration{FileSystemId: new("fs-1"), AuthorizationConfig: &types.EFSAuthorizationConfig{AccessPointId: new("fsap-1")}},
				agent.Mount{Type: "bind", Source: filepath.Join(shared, "point")}},
		} {
			id := r.add(onEFS(c.volume))
			r.reach(id, model.Running)
			spec, _ := r.machine.Runtime.Spec(id + "-web")
			c.want.Destination = "/data"
			if spec.Mounts[0].Source != c.want.Source || spec.Mounts[0].Type != c.want.Type || spec.Mounts[0].Destination != "/data" {
				t.Errorf("%+v became %+v", c.volume, spec.Mounts[0])
			}
		}
		id := r.add(onEFS(types.EFSVolumeConfiguration{FileSystemId: new("fs-nfs"), RootDirectory: new("/deep/../x")}))
		r.reach(id, model.Running)
		if spec, _ := r.machine.Runtime.Spec(id + "-web"); spec.Mounts[0].Type != "nfs" || spec.Mounts[0].Source != "10.0.0.9:/export/x" || spec.Mounts[0].Port != "2050" {
			t.Errorf("NFS became %+v", spec.Mounts[0])
		}
		for _, c := range []struct {
			volume types.EFSVolumeConfiguration
			says   string
		}{
			{types.EFSVolumeConfiguration{FileSystemId: new("fs-2")}, "berth file-system set fs-2"},
			{types.EFSVolumeConfiguration{FileSystemId: new("fs-1"), RootDirectory: new("/missing")}, "which is not there"},
			{types.EFSVolumeConfiguration{FileSystemId: new("fs-1"), RootDirectory: new("/link")}, "which is not there"}, // within the file system, not /etc
		} {
			id := r.add(onEFS(c.volume))
			if o := r.reach(id, model.Stopped); !strings.HasPrefix(o.StoppedReason, "ResourceInitializationError") || !strings.Contains(o.StoppedReason, c.says) {
				t.Errorf("%+v: %q", c.volume, o.StoppedReason)
			}
		}
	})
	for id, target := range map[string]string{"fs-1": "/", "fs-2": "relative", "x": "/srv", "fs-3": "nfs:///x", "fs-4": "nfs://host"} {
		if agent.CheckFileSystem(id, target) == nil {
			t.Errorf("%s may be %s", id, target)
		}
	}
}
