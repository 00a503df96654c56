//go:build linux

package main

import (
	"context"
	"sync"
	"syscall"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/task"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/berthdev/berth/internal/node/recovery/steps"
)

// steady is the stock task service, but for this: what it has begun it finishes. The stock one kills the runc that is at work
// when containerd's connection breaks, and leaves a container that is neither created nor started, which containerd kills on its
// return. With steady a containerd that is killed at any moment finds the container as it asked for it: whoever asks for one that
// is being created waits for that.
type steady struct {
	taskapi.TTRPCTaskService

	mu       sync.Mutex
	creating map[string]chan struct{} // closed when the creation of that container has ended
}

func newSteady(service taskapi.TTRPCTaskService) *steady {
	return &steady{TTRPCTaskService: service, creating: map[string]chan struct{}{}}
}

// Create implements the task service.
func (s *steady) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	if err := s.settled(ctx, r.ID); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	s.mu.Lock()
	s.creating[r.ID] = done
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.creating, r.ID)
		s.mu.Unlock()
		close(done)
	}()
	return steps.Finish(ctx, r, s.TTRPCTaskService.Create)
}

// settled waits while the container is being created; "" means any container.
func (s *steady) settled(ctx context.Context, id string) error {
	for {
		done := s.underWay(id)
		if done == nil {
			return nil
		}
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *steady) underWay(id string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id != "" {
		return s.creating[id]
	}
	for _, done := range s.creating {
		return done
	}
	return nil
}

// Start implements the task service.
func (s *steady) Start(ctx context.Context, r *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	if err := s.settled(ctx, r.ID); err != nil {
		return nil, err
	}
	return steps.Finish(ctx, r, s.TTRPCTaskService.Start)
}

// Kill implements the task service.
func (s *steady) Kill(ctx context.Context, r *taskapi.KillRequest) (*emptypb.Empty, error) {
	if err := s.settled(ctx, r.ID); err != nil {
		return nil, err
	}
	return steps.Finish(ctx, r, s.TTRPCTaskService.Kill)
}

// Delete implements the task service. A container that was created and never started is killed first: the stock service would
// wait ten seconds for the end of its output before it did so.
func (s *steady) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	if err := s.settled(ctx, r.ID); err != nil {
		return nil, err
	}
	return steps.Finish(ctx, r, s.delete)
}

func (s *steady) delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	if r.ExecID == "" {
		state, err := s.TTRPCTaskService.State(ctx, &taskapi.StateRequest{ID: r.ID})
		if err == nil && state.Status == task.Status_CREATED {
			if _, err := s.TTRPCTaskService.Kill(ctx, &taskapi.KillRequest{ID: r.ID, Signal: uint32(syscall.SIGKILL), All: true}); err == nil {
				_, _ = s.TTRPCTaskService.Wait(ctx, &taskapi.WaitRequest{ID: r.ID})
			}
		}
	}
	return s.TTRPCTaskService.Delete(ctx, r)
}

// Pids implements the task service. A containerd that comes back deletes a container of which it hears that there is none.
func (s *steady) Pids(ctx context.Context, r *taskapi.PidsRequest) (*taskapi.PidsResponse, error) {
	if err := s.settled(ctx, r.ID); err != nil {
		return nil, err
	}
	return s.TTRPCTaskService.Pids(ctx, r)
}

// Shutdown implements the task service. It does not end a shim that is creating its first container.
func (s *steady) Shutdown(ctx context.Context, r *taskapi.ShutdownRequest) (*emptypb.Empty, error) {
	if err := s.settled(ctx, ""); err != nil {
		return nil, err
	}
	return s.TTRPCTaskService.Shutdown(ctx, r)
}
