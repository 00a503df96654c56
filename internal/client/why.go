package client

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/why"
)

func (c *common) why() *cobra.Command {
	return &cobra.Command{Use: "why TASK|SERVICE", Short: "Say why a task or service is as it is, and what cures it", Args: Exactly(1),
		Long: `Say in a sentence why a task ended or does not run, or what is wrong with a service, and what cures it.
TASK is a task's id or the beginning of one; SERVICE is a service's name, or <cluster>/<name>.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := c.answering(cmd.Context())
			if err != nil {
				return err
			}
			e := &explainer{ecs: ecs.NewFromConfig(t.config()), elb: elb.NewFromConfig(t.config()), logs: cloudwatchlogs.NewFromConfig(t.config()),
				out: cmd.OutOrStdout(), now: time.Now()}
			return e.run(cmd.Context(), args[0])
		}}
}

// explainer gathers over the API what package why needs to know.
type explainer struct {
	ecs  *ecs.Client
	elb  *elb.Client
	logs *cloudwatchlogs.Client
	out  io.Writer
	now  time.Time
}

func (e *explainer) run(ctx context.Context, name string) error {
	tasks, err := listTasks(ctx, e.ecs, true)
	if err != nil {
		return err
	}
	cluster, service, both := strings.Cut(name, "/")
	if !both {
		cluster, service = "", name
	}
	found := false
	for _, t := range tasks {
		if id := model.ARNTail(aws.ToString(t.TaskArn)); len(name) >= 4 && strings.HasPrefix(id, model.ARNTail(name)) {
			e.task(ctx, t)
			found = true
		}
	}
	if found {
		return nil
	}
	clusters, err := e.clusters(ctx, cluster)
	if err != nil {
		return err
	}
	for _, c := range clusters {
		out, err := e.ecs.DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: &c, Services: []string{service}})
		if err != nil {
			return err
		}
		for _, s := range out.Services {
			if aws.ToString(s.Status) != "INACTIVE" {
				e.service(ctx, s, tasks)
				found = true
			}
		}
	}
	if !found {
		return fmt.Errorf("no task begins with %q and no service has that name; see: berth ps -a", name)
	}
	return nil
}

// clusters are the one that was named, or all.
func (e *explainer) clusters(ctx context.Context, named string) ([]string, error) {
	if named != "" {
		return []string{named}, nil
	}
	var all []string
	pages := ecs.NewListClustersPaginator(e.ecs, nil)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.ClusterArns...)
	}
	return all, nil
}

// task explains one task, with the last line of the container that is to blame.
func (e *explainer) task(ctx context.Context, t types.Task) {
	facts := why.OfAPI(t, e.definition(ctx, aws.ToString(t.TaskDefinitionArn)))
	for i := range facts.Containers {
		if c := &facts.Containers[i]; c.Group != "" && c.ExitCode != nil && *c.ExitCode != 0 {
			c.Last = e.last(ctx, c.Group, facts.ID, c.Name)
		}
	}
	what := facts.Family + ":" + fmt.Sprint(facts.Revision)
	if facts.Service != "" {
		what = "service " + facts.Service + ", " + what
	}
	fmt.Fprintf(e.out, "task %s of %s (%s): %s\n", facts.ID[:min(12, len(facts.ID))], facts.Cluster, what, facts.Status)
	e.say(why.Explain(facts, e.now))
	if facts.Reason != "" {
		fmt.Fprintf(e.out, "  in ECS's words: %s: %s\n", facts.StopCode, facts.Reason)
	}
}

func (e *explainer) say(f why.Finding) {
	fmt.Fprintf(e.out, "  %s\n", f.Cause)
	for _, c := range f.Cures {
		fmt.Fprintf(e.out, "  → %s", c.Text)
		if c.Command != "" {
			fmt.Fprintf(e.out, "  %s", c.Command)
		}
		fmt.Fprintln(e.out)
	}
}

// definition is a task definition, nil when it cannot be read: the sentences only know less then.
func (e *explainer) definition(ctx context.Context, arn string) *types.TaskDefinition {
	out, err := e.ecs.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: &arn})
	if err != nil {
		return nil
	}
	return out.TaskDefinition
}

// last is the last line of a container, "" when there is none to be had.
func (e *explainer) last(ctx context.Context, group, task, container string) string {
	streams, err := e.logs.DescribeLogStreams(ctx, &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: &group})
	if err != nil {
		return ""
	}
	for _, s := range streams.LogStreams {
		if !strings.HasSuffix(aws.ToString(s.LogStreamName), container+"/"+task) {
			continue
		}
		out, err := e.logs.GetLogEvents(ctx, &cloudwatchlogs.GetLogEventsInput{LogGroupName: &group, LogStreamName: s.LogStreamName, Limit: aws.Int32(1)})
		if err == nil && len(out.Events) > 0 {
			return aws.ToString(out.Events[len(out.Events)-1].Message)
		}
	}
	return ""
}

func (e *explainer) service(ctx context.Context, s types.Service, tasks []types.Task) {
	def := e.definition(ctx, aws.ToString(s.TaskDefinition))
	facts := why.Service{Cluster: model.ARNTail(aws.ToString(s.ClusterArn)), Name: aws.ToString(s.ServiceName), Status: aws.ToString(s.Status), Desired: s.DesiredCount,
		Running: s.RunningCount, Pending: s.PendingCount, Events: s.Events, Targets: e.targets(ctx, s)}
	for _, d := range s.Deployments {
		facts.Deployments = append(facts.Deployments, why.Deployment{ID: aws.ToString(d.Id), Status: aws.ToString(d.Status), Rollout: d.RolloutState,
			Reason: aws.ToString(d.RolloutStateReason), FailedTasks: d.FailedTasks, StartedAt: aws.ToTime(d.CreatedAt)})
	}
	for i := len(tasks) - 1; i >= 0; i-- { // newest first
		t := tasks[i]
		if aws.ToString(t.Group) != "service:"+facts.Name || model.ARNTail(aws.ToString(t.ClusterArn)) != facts.Cluster {
			continue
		}
		one := why.OfAPI(t, def)
		facts.CPU, facts.Memory = one.CPU, one.MemoryMiB
		if one.Status == model.Stopped {
			facts.Ended = append(facts.Ended, one)
		} else {
			facts.Tasks = append(facts.Tasks, one)
		}
	}
	fmt.Fprintf(e.out, "service %s of %s: %d of %d tasks run\n", facts.Name, facts.Cluster, facts.Running, facts.Desired)
	found := why.ExplainService(facts, e.now)
	for _, f := range found {
		e.say(f)
	}
	if len(found) == 0 {
		fmt.Fprintln(e.out, "  Nothing is wrong with it.")
	}
}

// targets are those of the service's target groups; what cannot be read is left out.
func (e *explainer) targets(ctx context.Context, s types.Service) (all []why.Target) {
	for _, lb := range s.LoadBalancers {
		if lb.TargetGroupArn == nil {
			continue
		}
		groups, err := e.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{TargetGroupArns: []string{*lb.TargetGroupArn}})
		health, herr := e.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: lb.TargetGroupArn})
		if err != nil || herr != nil || len(groups.TargetGroups) == 0 {
			continue
		}
		g := groups.TargetGroups[0]
		for _, h := range health.TargetHealthDescriptions {
			one := why.Target{Group: aws.ToString(g.TargetGroupName), CheckPort: aws.ToString(g.HealthCheckPort), CheckPath: aws.ToString(g.HealthCheckPath)}
			if h.Target != nil {
				one.ID, one.Port = aws.ToString(h.Target.Id), aws.ToInt32(h.Target.Port)
			}
			if lb.ContainerPort != nil {
				one.Listens = []int32{*lb.ContainerPort}
			}
			if h.TargetHealth != nil {
				one.State, one.Reason, one.Description = h.TargetHealth.State, h.TargetHealth.Reason, aws.ToString(h.TargetHealth.Description)
			}
			all = append(all, one)
		}
	}
	return all
}
