package client

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/why"
)

func (c *common) ps() *cobra.Command {
	all := false
	cmd := &cobra.Command{Use: "ps", Short: "List tasks", Args: NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		t, err := c.answering(cmd.Context())
		if err != nil {
			return err
		}
		tasks, err := listTasks(cmd.Context(), ecs.NewFromConfig(t.config()), all)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "TASK\tCLUSTER\tGROUP\tSTATUS\tADDRESS\tAGE\tWHY")
		for _, task := range tasks {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", model.ARNTail(*task.TaskArn)[:12], model.ARNTail(*task.ClusterArn),
				aws.ToString(task.Group), aws.ToString(task.LastStatus), addresses(task), age(task), reason(task))
		}
		return w.Flush()
	}}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "stopped tasks too")
	return cmd
}

// reason is why a task is as it is, where that is worth a word.
func reason(t types.Task) string {
	f := why.Explain(why.OfAPI(t, nil), time.Now())
	if f.Level == why.Fine && t.StopCode == "" {
		return ""
	}
	return f.Sentence()
}

// listTasks returns the tasks of every cluster, oldest first.
func listTasks(ctx context.Context, client *ecs.Client, stopped bool) ([]types.Task, error) {
	statuses := []types.DesiredStatus{types.DesiredStatusRunning}
	if stopped {
		statuses = append(statuses, types.DesiredStatusStopped)
	}
	var tasks []types.Task
	clusters := ecs.NewListClustersPaginator(client, nil)
	for clusters.HasMorePages() {
		page, err := clusters.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, cluster := range page.ClusterArns {
			for _, status := range statuses {
				found, err := clusterTasks(ctx, client, cluster, status)
				if err != nil {
					return nil, err
				}
				tasks = append(tasks, found...)
			}
		}
	}
	slices.SortStableFunc(tasks, func(a, b types.Task) int { return aws.ToTime(a.CreatedAt).Compare(aws.ToTime(b.CreatedAt)) })
	return tasks, nil
}

func clusterTasks(ctx context.Context, client *ecs.Client, cluster string, status types.DesiredStatus) ([]types.Task, error) {
	var tasks []types.Task
	list := ecs.NewListTasksPaginator(client, &ecs.ListTasksInput{Cluster: &cluster, DesiredStatus: status})
	for list.HasMorePages() {
		page, err := list.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		if len(page.TaskArns) == 0 {
			continue
		}
		out, err := client.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &cluster, Tasks: page.TaskArns})
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, out.Tasks...)
	}
	return tasks, nil
}

// addresses is where a task listens: its own address, or the host ports.
func addresses(t types.Task) string {
	var all []string
	for _, c := range t.Containers {
		for _, n := range c.NetworkInterfaces {
			all = append(all, aws.ToString(n.PrivateIpv4Address))
		}
		for _, b := range c.NetworkBindings {
			all = append(all, fmt.Sprintf("127.0.0.1:%d->%d", aws.ToInt32(b.HostPort), aws.ToInt32(b.ContainerPort)))
		}
	}
	slices.Sort(all)
	return cmp.Or(strings.Join(slices.Compact(all), " "), "-")
}

func age(t types.Task) string {
	d := time.Since(aws.ToTime(t.CreatedAt))
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
