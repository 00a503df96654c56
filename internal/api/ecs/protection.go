package ecs

import (
	"context"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Bounds of task protection (API reference).
const (
	protectedAtOnce  = 10
	protectedDefault = 2 * time.Hour
	protectedMost    = 2880 // minutes
)

// updateTaskProtection protects tasks of services from scaling in and deployments, or does not any more.
func (a *api) updateTaskProtection(ctx context.Context, in *sdk.UpdateTaskProtectionInput) (*sdk.UpdateTaskProtectionOutput, error) {
	switch {
	case len(in.Tasks) == 0:
		return nil, invalid("Tasks cannot be empty.")
	case len(in.Tasks) > protectedAtOnce:
		return nil, tooMany("Tasks", protectedAtOnce)
	case in.ExpiresInMinutes != nil && (*in.ExpiresInMinutes < 1 || *in.ExpiresInMinutes > protectedMost):
		return nil, invalid("expiresInMinutes should be between 1 and %d.", protectedMost)
	}
	var until time.Time
	if in.ProtectionEnabled {
		until = a.now().Add(protectedDefault).Truncate(time.Millisecond)
		if in.ExpiresInMinutes != nil {
			until = a.now().Add(time.Duration(*in.ExpiresInMinutes) * time.Minute).Truncate(time.Millisecond)
		}
	}
	out := &sdk.UpdateTaskProtectionOutput{}
	err := a.store.Update(ctx, func(tx store.Tx) error {
		c, err := a.cluster(tx, in.Cluster)
		if err != nil {
			return err
		}
		*out = sdk.UpdateTaskProtectionOutput{ProtectedTasks: []types.ProtectedTask{}, Failures: []types.Failure{}}
		a.eachTask(tx, c.Name, in.Tasks, func(t *model.Task) {
			if reason := a.unprotectable(tx, t, in.ProtectionEnabled); reason != "" {
				out.Failures = append(out.Failures, failure(t.ARN, reason))
				return
			}
			changed := *t
			changed.ProtectedUntil = until
			store.Tasks.Put(tx, &changed)
			out.ProtectedTasks = append(out.ProtectedTasks, a.protection(&changed))
		}, func(arn string) { out.Failures = append(out.Failures, failure(arn, missing)) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// getTaskProtection tells of the tasks that are named, or of all that are protected.
func (a *api) getTaskProtection(_ context.Context, in *sdk.GetTaskProtectionInput) (*sdk.GetTaskProtectionOutput, error) {
	if len(in.Tasks) > maxDescribed {
		return nil, tooMany("Tasks", maxDescribed)
	}
	out := &sdk.GetTaskProtectionOutput{ProtectedTasks: []types.ProtectedTask{}, Failures: []types.Failure{}}
	err := a.viewCluster(a.cluster, in.Cluster, func(r store.Reader, c *model.Cluster) error {
		if len(in.Tasks) == 0 {
			for t := range store.Tasks.By(r, store.ByCluster, c.Name) {
				if t.Service != "" && !t.Ended() && t.Protected(a.now()) {
					out.ProtectedTasks = append(out.ProtectedTasks, a.protection(t))
				}
			}
			return nil
		}
		a.eachTask(r, c.Name, in.Tasks, func(t *model.Task) {
			if t.Service == "" || t.Ended() {
				out.Failures = append(out.Failures, failure(t.ARN, "TASK_NOT_VALID"))
				return
			}
			out.ProtectedTasks = append(out.ProtectedTasks, a.protection(t))
		}, func(arn string) { out.Failures = append(out.Failures, failure(arn, missing)) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// eachTask finds the tasks of a cluster that refs name.
func (a *api) eachTask(r store.Reader, cluster string, refs []string, found func(*model.Task), lacking func(arn string)) {
	eachOnce(refs, func(ref string) (*model.Task, string, bool) {
		if t, ok := a.task(r, cluster, ref); ok {
			return t, t.ARN, true
		}
		return nil, arnOf(ref, func(id string) string { return a.scope.TaskARN(cluster, id) }), false
	}, found, lacking)
}

// unprotectable is why a task's protection cannot be changed; "" when it can.
func (a *api) unprotectable(r store.Reader, t *model.Task, enable bool) string {
	if t.Service == "" || t.Ended() || t.Desired == model.Stopped || t.StopRequest != nil {
		return "TASK_NOT_VALID"
	}
	d, ok := store.Deployments.Get(r, t.Cluster+"/"+t.Service+"/"+strings.TrimPrefix(t.Deployment, "ecs-svc/"))
	if enable && !t.Protected(a.now()) && ok && d.Status != "PRIMARY" { // it is on its way out
		return "DEPLOYMENT_BLOCKED"
	}
	return ""
}

func (a *api) protection(t *model.Task) types.ProtectedTask {
	p := types.ProtectedTask{TaskArn: &t.ARN, ProtectionEnabled: t.Protected(a.now())}
	if p.ProtectionEnabled {
		p.ExpirationDate = &t.ProtectedUntil
	}
	return p
}
