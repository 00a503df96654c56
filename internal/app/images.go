package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/berthdev/berth/internal/node/agent/containerd"
	"github.com/berthdev/berth/internal/node/daemon"
)

// openImages reaches the image store of a running instance.
func openImages(in *Instance) (*containerd.Images, func(), error) {
	if in.Runtime != "containerd" {
		return nil, nil, fmt.Errorf("this Berth runs with --runtime %s, which has no images", in.Runtime)
	}
	if _, err := os.Stat(in.ContainerdSocket()); err != nil {
		return nil, nil, fmt.Errorf("Berth's containerd does not run; start it with: berth up --data-dir %s", in.dir)
	}
	snapshotter, _ := daemon.Snapshotter(in.Path("containerd"))
	log := slog.New(slog.DiscardHandler)
	r, err := containerd.New(containerd.Config{Socket: in.ContainerdSocket(), Namespace: in.Namespace(), Snapshotter: snapshotter,
		StateDir: filepath.Join(in.RunDir(), "images"), CgroupParent: in.cgroup(), Runc: "/", Shim: "/", Log: log})
	if err != nil {
		return nil, nil, fmt.Errorf("connect to containerd: %w", err)
	}
	images, err := containerd.NewImages(r, containerd.ImagesConfig{Registry: in.RegistryHost(), Log: log})
	if err != nil {
		r.Close()
		return nil, nil, err
	}
	return images, func() { r.Close() }, nil
}

// ImportImages loads an OCI layout or docker-archive tar into the node's image store and returns the names.
func ImportImages(ctx context.Context, in *Instance, tar io.Reader) ([]string, error) {
	images, done, err := openImages(in)
	if err != nil {
		return nil, err
	}
	defer done()
	return images.Import(ctx, tar)
}

// ListImages lists the node's image store.
func ListImages(ctx context.Context, in *Instance) ([]containerd.LocalImage, error) {
	images, done, err := openImages(in)
	if err != nil {
		return nil, err
	}
	defer done()
	return images.ListImages(ctx)
}

// MarkBuilt says that an image was built here and is in no registry.
func MarkBuilt(ctx context.Context, in *Instance, ref string) error {
	images, done, err := openImages(in)
	if err != nil {
		return err
	}
	defer done()
	return images.MarkBuilt(ctx, ref)
}
