package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/model"
)

func (c *common) logs() *cobra.Command {
	follow := false
	cmd := &cobra.Command{Use: "logs [-f] TASK|SERVICE", Short: "Print what the containers of a task or service wrote", Args: Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := c.answering(cmd.Context())
			if err != nil {
				return err
			}
			r := &logReader{ecs: ecs.NewFromConfig(t.config()), logs: cloudwatchlogs.NewFromConfig(t.config()),
				out: cmd.OutOrStdout(), from: t}
			return r.run(cmd.Context(), args[0], follow)
		}}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	return cmd
}

// logReader prints the awslogs streams of some tasks, in the order of time.
type logReader struct {
	ecs  *ecs.Client
	logs *cloudwatchlogs.Client
	out  io.Writer
	from *Target
	seen map[string]int64 // times of printed events by their ids, as far as they may be read again
	last int64            // the newest of them, in milliseconds
}

// late is how much older than the newest event one may be that is still to come, in milliseconds: streams are written one by one.
const late = 10_000

// source is one container's stream.
type source struct{ group, stream, label string }

func (r *logReader) run(ctx context.Context, name string, follow bool) error {
	r.seen = map[string]int64{}
	for {
		sources, err := r.sources(ctx, name)
		if err != nil {
			return err
		}
		if err := r.print(ctx, sources); err != nil {
			return err
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// sources finds the streams of the tasks that name means: a task by the beginning of its id, or every task of a service.
func (r *logReader) sources(ctx context.Context, name string) ([]source, error) {
	tasks, err := listTasks(ctx, r.ecs, true)
	if err != nil {
		return nil, err
	}
	var found []source
	var elsewhere error
	matched := false
	for _, t := range tasks {
		id := model.ARNTail(*t.TaskArn)
		if !strings.HasPrefix(id, model.ARNTail(name)) && aws.ToString(t.Group) != "service:"+name {
			continue
		}
		matched = true
		s, err := r.taskSources(ctx, t, id)
		if err != nil {
			elsewhere = err
			continue
		}
		found = append(found, s...)
	}
	if !matched {
		return nil, fmt.Errorf("no task or service is called %s; berth ps -a lists the tasks", name)
	}
	if len(found) == 0 {
		return nil, elsewhere
	}
	return found, nil
}

func (r *logReader) taskSources(ctx context.Context, t types.Task, id string) ([]source, error) {
	def, err := r.ecs.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: t.TaskDefinitionArn})
	if err != nil {
		return nil, err
	}
	var found []source
	for _, c := range def.TaskDefinition.ContainerDefinitions {
		l := c.LogConfiguration
		if l == nil || l.LogDriver != types.LogDriverAwslogs {
			continue
		}
		stream := *c.Name + "/" + id
		if prefix := l.Options["awslogs-stream-prefix"]; prefix != "" {
			stream = prefix + "/" + stream
		}
		found = append(found, source{l.Options["awslogs-group"], stream, id[:8] + " " + *c.Name})
	}
	if len(found) == 0 {
		if r.from.Logs != nil {
			return nil, fmt.Errorf("task %s has no container with the awslogs log driver; json-file logs are under %s", id, r.from.Logs(id))
		}
		return nil, fmt.Errorf("task %s has no container with the awslogs log driver; its json-file logs are on the machine it runs on", id)
	}
	return found, nil
}

// print writes the events since the last call.
func (r *logReader) print(ctx context.Context, sources []source) error {
	groups := map[string][]string{}
	labels := map[string]string{}
	for _, s := range sources {
		groups[s.group] = append(groups[s.group], s.stream)
		labels[s.stream] = s.label
	}
	from := max(0, r.last-late) // the same for all groups
	for group, streams := range groups {
		for len(streams) > 0 {
			n := min(len(streams), 100) // FilterLogEvents takes no more (CloudWatch Logs API reference)
			if err := r.printGroup(ctx, group, streams[:n], labels, from); err != nil {
				return err
			}
			streams = streams[n:]
		}
	}
	maps.DeleteFunc(r.seen, func(_ string, at int64) bool { return at < r.last-late })
	return nil
}

func (r *logReader) printGroup(ctx context.Context, group string, streams []string, labels map[string]string, from int64) error {
	in := &cloudwatchlogs.FilterLogEventsInput{LogGroupName: &group, LogStreamNames: streams, StartTime: &from}
	pages := cloudwatchlogs.NewFilterLogEventsPaginator(r.logs, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log group %s: %w", group, err)
		}
		for _, e := range page.Events {
			if _, ok := r.seen[*e.EventId]; ok {
				continue
			}
			r.last = max(r.last, *e.Timestamp)
			r.seen[*e.EventId] = *e.Timestamp
			fmt.Fprintf(r.out, "%s %s\n", labels[*e.LogStreamName], strings.TrimRight(*e.Message, "\n"))
		}
	}
	return nil
}
