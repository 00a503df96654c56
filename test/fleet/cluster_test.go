package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/test/machines"
)

// lbPort is the listener's on the machines that balance.
const lbPort = 8080

// makeLB makes a load balancer with a listener at lbPort and one target group of addresses, which it returns.
func (b *box) makeLB() string {
	b.t.Helper()
	ctx, client := context.Background(), elb.NewFromConfig(b.config())
	lb, err := client.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: aws.String("lb"), Subnets: []string{"subnet-96102b6dd861ecfdf", "subnet-a2c04b48375b9b1d8"}})
	if err != nil {
		b.t.Fatal(err)
	}
	tg, err := client.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: aws.String("tg"), Port: aws.Int32(80),
		Protocol: elbtypes.ProtocolEnumHttp, TargetType: elbtypes.TargetTypeEnumIp, VpcId: aws.String("vpc-1a2ea22534b6c4b01"),
		HealthCheckIntervalSeconds: aws.Int32(5), HealthCheckTimeoutSeconds: aws.Int32(2)})
	if err != nil {
		b.t.Fatal(err)
	}
	group := tg.TargetGroups[0].TargetGroupArn
	_, err = client.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancers[0].LoadBalancerArn, Port: aws.Int32(lbPort),
		Protocol: elbtypes.ProtocolEnumHttp, DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: group}}})
	if err != nil {
		b.t.Fatal(err)
	}
	return *group
}

// makeService makes a service of a definition; group is its target group, "" for none.
func (b *box) makeService(name, definition string, desired int32, group string, tags ...string) {
	b.t.Helper()
	in := &ecs.CreateServiceInput{ServiceName: &name, TaskDefinition: &definition, DesiredCount: &desired, NetworkConfiguration: network}
	if group != "" {
		in.LoadBalancers = []ecstypes.LoadBalancer{{TargetGroupArn: &group, ContainerName: aws.String("web"), ContainerPort: aws.Int32(80)}}
		in.HealthCheckGracePeriodSeconds = aws.Int32(5)
	}
	for i := 0; i+1 < len(tags); i += 2 {
		in.Tags = append(in.Tags, ecstypes.Tag{Key: &tags[i], Value: &tags[i+1]})
	}
	if _, err := b.ecs().CreateService(context.Background(), in); err != nil {
		b.t.Fatal(err)
	}
}

// settled tells what of a service is not as it should be.
func (b *box) settled(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := b.ecs().DescribeServices(ctx, &ecs.DescribeServicesInput{Services: []string{name}})
	if err != nil {
		return err
	}
	if len(out.Services) != 1 {
		return fmt.Errorf("service %s: %v", name, out.Failures)
	}
	if s := out.Services[0]; len(s.Deployments) != 1 || s.RunningCount != s.DesiredCount || s.PendingCount != 0 ||
		s.Deployments[0].RolloutState != ecstypes.DeploymentRolloutStateCompleted {
		var events []string
		for _, e := range s.Events[:min(4, len(s.Events))] {
			events = append(events, *e.Message)
		}
		return fmt.Errorf("%s has %d deployments, %d running and %d pending of %d: %s", name, len(s.Deployments), s.RunningCount, s.PendingCount,
			s.DesiredCount, strings.Join(events, " | "))
	}
	return nil
}

// stable waits until services have what they should.
func (b *box) stable(limit time.Duration, names ...string) {
	b.t.Helper()
	for _, name := range names {
		eventually(b.t, limit, name+" is stable", func() error { return b.settled(name) })
	}
}

// tasks describes the tasks of the default cluster that have not ended, or those that have.
func (b *box) tasks(status ecstypes.DesiredStatus) (all []ecstypes.Task, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := b.ecs()
	pages := ecs.NewListTasksPaginator(client, &ecs.ListTasksInput{DesiredStatus: status})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		if len(page.TaskArns) == 0 {
			continue
		}
		out, err := client.DescribeTasks(ctx, &ecs.DescribeTasksInput{Tasks: page.TaskArns})
		if err != nil {
			return nil, err
		}
		all = append(all, out.Tasks...)
	}
	return all, nil
}

func taskID(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

func address(t ecstypes.Task) string {
	for _, c := range t.Containers {
		for _, n := range c.NetworkInterfaces {
			return aws.ToString(n.PrivateIpv4Address)
		}
	}
	return ""
}

// container is a process of a task, as the kernel has it.
type container struct {
	box     *box
	process machines.Process
	task    string // its id
}

// containers are those of the test program on all machines, or on those named.
func (f *fleet) containers(on ...*box) (all []container) {
	if len(on) == 0 {
		on = f.all
	}
	for _, b := range on {
		for _, p := range b.Processes("/web") {
			env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
			if _, rest, ok := strings.Cut(string(env), "/v4/"); ok && len(rest) >= 32 {
				all = append(all, container{b, p, rest[:32]})
			}
		}
	}
	slices.SortFunc(all, func(a, b container) int { return strings.Compare(a.task, b.task) })
	return all
}

// where is the machine on which a task's container runs, nil when none does.
func (f *fleet) where(task string) *box {
	for _, c := range f.containers() {
		if c.task == task {
			return c.box
		}
	}
	return nil
}

// cluster makes one cluster of all machines: the first ones are servers, which run tasks too, and the rest are nodes. Each machine's zone is
// a letter of its own. All get the images. It returns once the first server has a session of each.
func (f *fleet) cluster(servers int, refs ...string) {
	f.t.Helper()
	first := f.one()
	first.up("--advertise", first.Address.String())
	for i, b := range f.all[1:] {
		if i+1 < servers {
			b.joinAsServer(first)
		} else {
			b.joinAsNode(first)
		}
	}
	f.connected(20 * time.Second)
	for _, b := range f.all {
		for _, ref := range refs {
			b.importImage(ref)
		}
	}
}

// token makes one on a server.
func (b *box) token(role string) string {
	b.t.Helper()
	for _, word := range strings.Fields(b.must("token", role)) {
		if strings.HasPrefix(word, "berth://") {
			return word
		}
	}
	b.t.Fatalf("berth token %s names no URL", role)
	return ""
}

// joinAsNode has a machine run `berth node`, at first with a token of a server.
func (b *box) joinAsNode(server *box) {
	b.t.Helper()
	args := []string{"node", "--zone", b.zone()}
	b.serve(append(args, "--join", server.token("node"))...)
	b.at(server)
	b.inCluster(server)
	b.serve(args...) // it goes on, and needs no token at its next boot
}

// joinAsServer has a machine run `berth up` as one of the cluster's servers.
func (b *box) joinAsServer(server *box) {
	b.t.Helper()
	args := []string{"up", "--advertise", b.Address.String()}
	b.serve(append(args, "--join", server.token("server"))...)
	b.at(server)
	b.inCluster(server)
	b.serve(args...)
	b.servers = true
}

// at gives a machine's clients the keys of the cluster. Servers and relays answer at the same address.
func (b *box) at(server *box) { b.env = server.env }

func (b *box) zone() string { return string(rune('a' + (b.Index-1)%26)) }

// inCluster waits until a server has a session of the machine.
func (b *box) inCluster(server *box) {
	b.t.Helper()
	eventually(b.t, 40*time.Second, b.Name+" is in the cluster", func() error {
		n, err := server.nodeNamed(b.Name)
		if err == nil && !n.Agent {
			err = fmt.Errorf("%+v", n)
		}
		return err
	})
}

// node is what a server says of a node.
type node struct {
	ID, Host, Address, Zone, State, Note string
	Agent                                bool
	Tasks                                int
}

// nodeNamed asks a server for a node by its host's name.
func (b *box) nodeNamed(host string) (n node, err error) {
	out, err := b.berth("node", "ls", "--json")
	if err != nil {
		return n, err
	}
	var report struct{ Nodes []node }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return n, err
	}
	for _, n := range report.Nodes {
		if n.Host == host {
			return n, nil
		}
	}
	return n, fmt.Errorf("no node %s in %s", host, out)
}

// connected waits until all machines have sessions.
func (f *fleet) connected(limit time.Duration) {
	f.t.Helper()
	eventually(f.t, limit, "all machines have sessions", func() error {
		for _, b := range f.all {
			if n, err := f.one().nodeNamed(b.Name); err != nil || !n.Agent {
				return fmt.Errorf("%s: %+v %w", b.Name, n, err)
			}
		}
		return nil
	})
}

// one is the first machine, by whose client tests ask.
func (f *fleet) one() *box { return f.all[0] }

// redeploy replaces a service's tasks.
func (b *box) redeploy(service string) {
	b.t.Helper()
	_, err := b.ecs().UpdateService(context.Background(), &ecs.UpdateServiceInput{Service: &service, ForceNewDeployment: true})
	if err != nil {
		b.t.Fatal(err)
	}
}
