//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/log"

	"github.com/berthdev/berth/internal/node/agent/outlet"
	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
)

// logged is the stock task service, but for this: what a container writes, where its spec gives its log a bound, goes through an
// outlet. The stock service writes to the file itself, without a bound, and gives up for ever when the disk is full once.
type logged struct {
	taskapi.TTRPCTaskService

	mu      sync.Mutex
	outlets map[string]*outlet.Outlet // by container
}

func newLogged(service taskapi.TTRPCTaskService) *logged {
	return &logged{TTRPCTaskService: service, outlets: map[string]*outlet.Outlet{}}
}

// Create implements the task service.
func (l *logged) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	limit, ok := boundOf(r.Bundle)
	if !ok || r.Stdout == "" {
		return l.TTRPCTaskService.Create(ctx, r)
	}
	o, err := outlet.Open(r.Stdout, r.Stderr, limit)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", r.ID, err)
	}
	stdout, stderr := o.Paths()
	if r.Stderr == "" { // a terminal has one output
		stderr = ""
	}
	r.Stdout, r.Stderr = stdout, stderr
	res, err := l.TTRPCTaskService.Create(ctx, r)
	if serr := o.Started(); err == nil {
		err = serr
	}
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outlets[r.ID] = o
	return res, nil
}

// Delete implements the task service. It returns when all output is in the files.
func (l *logged) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	l.mu.Lock()
	o := l.outlets[r.ID]
	l.mu.Unlock()
	if r.ExecID != "" || o == nil {
		return l.TTRPCTaskService.Delete(ctx, r)
	}
	o.Ending()
	res, err := l.TTRPCTaskService.Delete(ctx, r)
	if err != nil {
		return res, err
	}
	l.mu.Lock()
	delete(l.outlets, r.ID)
	l.mu.Unlock()
	if cerr := o.Close(); cerr != nil {
		log.G(ctx).WithError(cerr).WithField("id", r.ID).Warn("a container's log cannot be closed")
	}
	return res, nil
}

// boundOf reads the bound of a container's log from its bundle.
func boundOf(bundle string) (bound.Bound, bool) {
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	var b bound.Bound
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil || json.Unmarshal(data, &spec) != nil || json.Unmarshal([]byte(spec.Annotations[bound.Annotation]), &b) != nil {
		return b, false
	}
	return b, true
}
