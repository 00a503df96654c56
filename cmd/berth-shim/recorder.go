//go:build linux

package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"

	"github.com/berthdev/berth/internal/node/cgroup"
	"github.com/berthdev/berth/internal/node/recovery/note"
)

// recorder is the stock task service, but for this: before a container that has ended is forgotten, its end is noted where the
// container's spec says. A containerd that was away when the container ended deletes it on its return and tells nobody.
type recorder struct {
	taskapi.TTRPCTaskService
	bundles string // the folder that holds the containers' bundles
}

// RegisterTTRPC makes the shim serve the recorder.
func (r *recorder) RegisterTTRPC(server *ttrpc.Server) error {
	taskapi.RegisterTTRPCTaskService(server, r)
	return nil
}

// Delete implements the task service.
func (r *recorder) Delete(ctx context.Context, req *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	if req.ExecID != "" {
		return r.TTRPCTaskService.Delete(ctx, req)
	}
	noted := r.watch(req.ID)
	res, err := r.TTRPCTaskService.Delete(ctx, req)
	if err == nil {
		if nerr := noted(shim.StopStatus{ExitStatus: int(res.ExitStatus), ExitedAt: res.ExitedAt.AsTime()}); nerr != nil {
			log.G(ctx).WithError(nerr).WithField("id", req.ID).Error("the end of a container cannot be noted")
		}
	}
	return res, err
}

// watch reads what will be gone with the container. What it returns notes the container's end, if that is to be noted.
func (r *recorder) watch(id string) (noted func(shim.StopStatus) error) {
	path, cgroupPath := r.noteOf(id)
	known, begun := note.Read(path)
	if path == "" || !begun || known.Exited {
		return func(shim.StopStatus) error { return nil }
	}
	oom := oomKilled(cgroupPath)
	return func(end shim.StopStatus) error {
		return note.End(path, note.Note{ExitCode: int32(end.ExitStatus), FinishedAt: end.ExitedAt, OOMKilled: oom && end.ExitStatus != 0})
	}
}

// noteOf reads where a container's note is, and its cgroup, from its bundle.
func (r *recorder) noteOf(id string) (path, cgroupPath string) {
	data, err := os.ReadFile(filepath.Join(r.bundles, id, "config.json"))
	if err != nil {
		return "", ""
	}
	var spec struct {
		Annotations map[string]string `json:"annotations"`
		Linux       struct {
			CgroupsPath string `json:"cgroupsPath"`
		} `json:"linux"`
	}
	if json.Unmarshal(data, &spec) != nil {
		return "", ""
	}
	return spec.Annotations[note.Annotation], spec.Linux.CgroupsPath
}

func oomKilled(path string) bool {
	tree, err := cgroup.Detect()
	if err != nil || path == "" {
		return false
	}
	n, err := tree.OOMKills(path)
	return err == nil && n > 0
}
