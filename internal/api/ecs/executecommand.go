package ecs

import (
	"cmp"
	"context"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/ecs/taskdef"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/execstream"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Command is what somebody wants to run in a container.
type Command struct {
	Who       string // the caller's ARN
	Task      *model.Task
	Container string
	Words     []string
	// LogGroup, and what the stream's name begins with, are where the session is recorded; "" for nowhere.
	LogGroup, LogStream string
}

const (
	// notEnabled and notConnected are AWS's texts.
	notEnabled = "The execute command failed because execute command was not enabled when the task was run or the execute command agent isn’t running. " +
		"Wait and try again or run a new task with execute command enabled and try again."
	notConnected = "The execute command failed due to an internal error. Try again later."
)

// executeCommand makes a session in a container; the client begins it at the URL of the answer.
func (a *api) executeCommand(ctx context.Context, in *sdk.ExecuteCommandInput) (*sdk.ExecuteCommandOutput, error) {
	if !in.Interactive {
		return nil, invalid("Interactive is the only mode supported currently.")
	}
	words, err := execstream.Split(value(in.Command))
	if err != nil {
		return nil, invalid("The command cannot be read: %s.", err)
	}
	if len(words) == 0 {
		return nil, invalid("Command cannot be empty.")
	}
	if a.session == nil {
		return nil, model.Errorf("TargetNotConnectedException", notConnected)
	}
	c := Command{Who: wire.CallerFrom(ctx).ARN, Words: words}
	var container *model.Container
	err = a.viewCluster(a.cluster, in.Cluster, func(r store.Reader, cluster *model.Cluster) error {
		t, ok := a.task(r, cluster.Name, value(in.Task))
		if !ok {
			return invalid("The referenced task was not found.")
		}
		c.Task = t
		if container, err = a.target(r, t, value(in.Container)); err != nil {
			return err
		}
		c.Container = container.Name
		c.LogGroup, c.LogStream = a.sessionLog(r, cluster, t, container.Name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	session, err := a.session(ctx, c)
	if err != nil {
		return nil, err
	}
	return &sdk.ExecuteCommandOutput{ClusterArn: new(a.scope.ClusterARN(c.Task.Cluster)), TaskArn: &c.Task.ARN, Interactive: true, Session: session,
		ContainerArn: new(a.scope.ContainerARN(c.Task.Cluster, c.Task.ID, container.ID)), ContainerName: &container.Name}, nil
}

// target is the container of a task in which a command may be run now.
func (a *api) target(r store.Reader, t *model.Task, name string) (*model.Container, error) {
	all := t.Observed.Containers
	if name == "" && len(all) > 1 {
		return nil, invalid("The task has several containers. Specify the name of the container that the command is to run in and try again.")
	}
	i := slices.IndexFunc(all, func(c model.Container) bool { return name == "" || c.Name == name })
	switch {
	case t.Ended() || t.Desired == model.Stopped || t.StopRequest != nil:
		return nil, invalid("The execute command failed because the task is not running or is stopping. Run a new task and try again.")
	case i < 0 && name != "" && !a.defined(r, t, name):
		return nil, invalid("The container %s was not found in the task.", name)
	case !t.EnableExecuteCommand || i < 0 || all[i].Status != model.Running:
		return nil, invalid(notEnabled)
	}
	if node, ok := store.Nodes.Get(r, t.NodeID); !ok || !node.Connected || node.Lost() {
		return nil, model.Errorf("TargetNotConnectedException", notConnected)
	}
	return &all[i], nil
}

// defined tells whether a task's definition has a container.
func (a *api) defined(r store.Reader, t *model.Task, name string) bool {
	def, ok := store.TaskDefinitions.Get(r, model.TaskDefinitionKey(t.Family, t.Revision))
	return ok && taskdef.Container(&def.Definition, name) != nil
}

// sessionLog is where the cluster's executeCommandConfiguration has sessions recorded: in a group of its own, in that of the container's
// log driver awslogs (the default), or nowhere. S3 buckets are not written to.
func (a *api) sessionLog(r store.Reader, cluster *model.Cluster, t *model.Task, container string) (group, stream string) {
	conf := types.ExecuteCommandConfiguration{}
	if cluster.Configuration != nil && cluster.Configuration.ExecuteCommandConfiguration != nil {
		conf = *cluster.Configuration.ExecuteCommandConfiguration
	}
	switch cmp.Or(conf.Logging, types.ExecuteCommandLoggingDefault) {
	case types.ExecuteCommandLoggingOverride:
		if l := conf.LogConfiguration; l != nil {
			return value(l.CloudWatchLogGroupName), ""
		}
	case types.ExecuteCommandLoggingDefault:
		def, ok := store.TaskDefinitions.Get(r, model.TaskDefinitionKey(t.Family, t.Revision))
		if !ok {
			return "", ""
		}
		if c := taskdef.Container(&def.Definition, container); c != nil && c.LogConfiguration != nil && c.LogConfiguration.LogDriver == types.LogDriverAwslogs {
			return c.LogConfiguration.Options["awslogs-group"], ""
		}
	}
	return "", ""
}
