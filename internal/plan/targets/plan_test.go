package targets

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// fixture is service "web" with one deployment, on two nodes.
type fixture struct{ Input }

// web makes the service; groups are names of target groups, "ip…" of type ip and others of type instance.
func web(groups ...string) *fixture {
	f := &fixture{Input{
		Health: map[string]*model.TargetHealth{}, Groups: map[string]*model.TargetGroup{},
		Nodes: map[string]*model.Node{
			"n1": {ID: "n1", Declaration: model.Declaration{Address: "192.0.2.1", Attributes: map[string]string{"ecs.availability-zone": "us-east-1a"}}},
			"n2": {ID: "n2", Declaration: model.Declaration{Address: "192.0.2.2"}},
		},
		Now: now, Pace: model.PaceFast,
	}}
	revision := &model.ServiceRevision{ID: "1"}
	for _, g := range groups {
		kind := elbtypes.TargetTypeEnumInstance
		if strings.HasPrefix(g, "ip") {
			kind = elbtypes.TargetTypeEnumIp
		}
		f.Groups["arn:"+g] = &model.TargetGroup{ARN: "arn:" + g, Group: elbtypes.TargetGroup{TargetType: kind},
			Attributes: map[string]string{}}
		revision.LoadBalancers = append(revision.LoadBalancers, ecstypes.LoadBalancer{
			TargetGroupArn: new("arn:" + g), ContainerName: new("app"), ContainerPort: new(int32(8080))})
	}
	f.Service = &model.Service{Cluster: "default", Name: "web"}
	f.Revisions = map[string]*model.ServiceRevision{"ecs-svc/1": revision}
	return f
}

// task adds a RUNNING awsvpc task at 10.0.0.<last digit of id>.
func (f *fixture) task(id string, change ...func(*Task)) *fixture {
	t := Task{Task: &model.Task{
		ID: id, Service: f.Service.Name, Cluster: "default", Deployment: "ecs-svc/1", NodeID: "n1", InstanceID: "i1",
		NetworkMode: ecstypes.NetworkModeAwsvpc, Desired: model.Running,
		Observed: model.Observed{Status: model.Running, Interface: &model.NetworkInterface{IPv4: "10.0.0." + id[1:]}},
	}}
	for _, c := range change {
		c(&t)
	}
	f.Tasks = append(f.Tasks, t)
	return f
}

// target registers 10.0.0.<n>:8080 of group for task t<n>; draining for that long when it is not zero.
func (f *fixture) target(group, n string, draining time.Duration, drained bool) *fixture {
	t := &model.Target{TargetGroupARN: "arn:" + group, ID: "10.0.0." + n, Port: 8080, Address: "10.0.0." + n, Task: "t" + n,
		Service: "default/web"}
	if draining > 0 {
		t.DrainingSince = now.Add(-draining)
	}
	f.Targets = append(f.Targets, t)
	f.Health[t.Key()] = &model.TargetHealth{TargetGroupARN: t.TargetGroupARN, ID: t.ID, Port: t.Port, Drained: drained}
	return f
}

func (f *fixture) with(change func(*Input)) *fixture {
	change(&f.Input)
	return f
}

func status(s model.TaskStatus) func(*Task) { return func(t *Task) { t.Observed.Status = s } }

func stop(t *Task) {
	t.StopRequest = &model.StopRequest{Code: ecstypes.TaskStopCodeUserInitiated}
	t.Desired = model.Stopped
}

func kill(t *Task) { stop(t); t.StopRequest.Kill = true }

func checked(h ecstypes.HealthStatus) func(*Task) {
	return func(t *Task) { t.ContainerChecks, t.Observed.Health = true, h }
}

// bridge gives the task host port 32768 for port 8080 instead of an interface.
func bridge(t *Task) {
	t.NetworkMode, t.Observed.Interface = ecstypes.NetworkModeBridge, nil
	t.Observed.Containers = []model.Container{{Name: "side"}, {Name: "app", NetworkBindings: []ecstypes.NetworkBinding{
		{ContainerPort: new(int32(8080)), HostPort: new(int32(40000)), Protocol: ecstypes.TransportProtocolUdp},
		{ContainerPort: new(int32(9090)), HostPort: new(int32(40001)), Protocol: ecstypes.TransportProtocolTcp},
		{ContainerPort: new(int32(8080)), HostPort: new(int32(32768)), Protocol: ecstypes.TransportProtocolTcp},
	}}}
}

func host(t *Task) { bridge(t); t.NetworkMode = ecstypes.NetworkModeHost }

// script spells actions, one a line.
func script(actions []Action) []string {
	var out []string
	for _, a := range actions {
		switch a := a.(type) {
		case Register:
			t := a.Target
			out = append(out, fmt.Sprintf("register %s at %s for %s of %s in %q: %s",
				t.Key(), t.Address, t.Task, t.Service, t.AZ, a.Reason))
		case Drain:
			out = append(out, "drain "+a.Key+": "+a.Reason)
		case Remove:
			out = append(out, "remove "+a.Key+": "+a.Reason)
		case Release:
			out = append(out, "release "+a.TaskID+": "+a.Reason)
		case Event:
			out = append(out, "event "+a.Text)
		}
	}
	return out
}

type planCase struct {
	name string
	in   *fixture
	want []string
}

func runCases(t *testing.T, cases []planCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := script(Plan(c.in.Input)); !slices.Equal(got, c.want) {
				t.Errorf("plan is\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(c.want, "\n\t"))
			}
		})
	}
}

const (
	registered   = "event (service web) registered 1 targets in (target-group arn:ip)"
	deregistered = "event (service web) deregistered 1 targets in (target-group arn:ip)"
	begun        = "event (service web) has begun draining connections on 1 tasks."
)

func TestRegistration(t *testing.T) {
	ipLine := `register arn:ip|10.0.0.1|8080 at 10.0.0.1 for t1 of default/web in "us-east-1a": task t1 runs and is healthy`
	runCases(t, []planCase{
		{"a running task is registered", web("ip").task("t1"), []string{ipLine, registered}},
		{"once", web("ip").task("t1").target("ip", "1", 0, false), nil},
		{"not before it runs", web("ip").task("t1", status(model.Activating)), nil},
		{"not before its containers are healthy", web("ip").task("t1", checked(ecstypes.HealthStatusUnknown)), nil},
		{"but then", web("ip").task("t1", checked(ecstypes.HealthStatusHealthy)), []string{ipLine, registered}},
		{"not while it has no address", web("ip").task("t1", func(t *Task) { t.Observed.Interface = nil }), nil},
		{"not when it is to stop", web("ip").task("t1", stop), []string{"release t1: it is in no target group"}},
		{"an unhealthy one stays until it is stopped", web("ip").task("t1", checked(ecstypes.HealthStatusUnhealthy)).
			target("ip", "1", 0, false), nil},
		{"in each group of its revision", web("ip", "ip2").task("t1").task("t2").target("ip", "1", 0, false), []string{
			`register arn:ip2|10.0.0.1|8080 at 10.0.0.1 for t1 of default/web in "us-east-1a": task t1 runs and is healthy`,
			`register arn:ip|10.0.0.2|8080 at 10.0.0.2 for t2 of default/web in "us-east-1a": task t2 runs and is healthy`,
			`register arn:ip2|10.0.0.2|8080 at 10.0.0.2 for t2 of default/web in "us-east-1a": task t2 runs and is healthy`,
			registered,
			"event (service web) registered 2 targets in (target-group arn:ip2)",
		}},
		{"bridge: the instance and its host port", web("ec2").task("t1", bridge), []string{
			`register arn:ec2|` + model.EC2ID("n1") + `|32768 at 192.0.2.1 for t1 of default/web in "us-east-1a": task t1 runs and is healthy`,
			"event (service web) registered 1 targets in (target-group arn:ec2)",
		}},
		{"bridge in a group of addresses: the node's", web("ip").task("t1", bridge), []string{
			`register arn:ip|192.0.2.1|32768 at 192.0.2.1 for t1 of default/web in "us-east-1a": task t1 runs and is healthy`,
			registered,
		}},
		{"host: the container's port", web("ec2").task("t1", host, func(t *Task) { t.NodeID, t.InstanceID = "n2", "i2" }), []string{
			`register arn:ec2|` + model.EC2ID("n2") + `|8080 at 192.0.2.2 for t1 of default/web in "": task t1 runs and is healthy`,
			"event (service web) registered 1 targets in (target-group arn:ec2)",
		}},
		{"bridge: not while the port is unknown", web("ec2").task("t1", bridge, func(t *Task) {
			t.Observed.Containers = t.Observed.Containers[:1]
		}), nil},
		{"not on an unknown node", web("ec2").task("t1", bridge, func(t *Task) { t.NodeID = "n9" }), nil},
		{"awsvpc does not fit a group of instances", web("ec2").task("t1"), nil},
		{"not of an unknown deployment", web("ip").task("t1", func(t *Task) { t.Deployment = "ecs-svc/7" }), nil},
		{"not in a group that is gone", web("ip").task("t1").with(func(in *Input) { delete(in.Groups, "arn:ip") }), nil},
		{"not in a load balancer without a target group", web("ip").task("t1").with(func(in *Input) {
			in.Revisions["ecs-svc/1"].LoadBalancers[0].TargetGroupArn = nil
		}), nil},
		{"an address passes from an ended task to a new one", web("ip").task("t1").with(func(in *Input) {
			in.Targets = append(in.Targets, &model.Target{TargetGroupARN: "arn:ip", ID: "10.0.0.1", Port: 8080, Task: "t0",
				Service: "default/web"})
		}), []string{"remove arn:ip|10.0.0.1|8080: task t0 has ended", ipLine, deregistered, registered}},
		{"and from one that was drained, which does not hold it up", web("ip").task("t1").task("t2", stop).
			with(func(in *Input) {
				in.Targets = append(in.Targets, &model.Target{TargetGroupARN: "arn:ip", ID: "10.0.0.1", Port: 8080, Task: "t2",
					Service: "default/web", DrainingSince: now.Add(-time.Hour)})
			}), []string{
			"remove arn:ip|10.0.0.1|8080: the deregistration delay has passed", ipLine,
			"release t2: its targets are drained", registered,
		}},
		{"but not from a live one", web("ip").task("t0", stop).task("t1").with(func(in *Input) {
			in.Targets = append(in.Targets, &model.Target{TargetGroupARN: "arn:ip", ID: "10.0.0.1", Port: 8080, Task: "t0",
				Service: "default/web", DrainingSince: now})
		}), nil},
	})
}

// TestLost: no request goes to a lost machine, and its tasks are registered again when it is back.
func TestLost(t *testing.T) {
	lost := func(t *Task) { t.Lost = true }
	gone := "remove arn:ip|10.0.0.1|8080: the machine of task t1 is lost"
	runCases(t, []planCase{
		{"its targets go at once", web("ip").task("t1", lost).target("ip", "1", 0, false), []string{gone, deregistered}},
		{"also while they drain", web("ip").task("t1", lost, stop).target("ip", "1", time.Second, false), []string{gone,
			"release t1: its targets are drained"}},
		{"and do not come back before it does", web("ip").task("t1", lost), nil},
	})
}

func TestStopOrder(t *testing.T) {
	runCases(t, []planCase{
		{"first its targets drain", web("ip", "ip2").task("t1", stop).target("ip", "1", 0, false).target("ip2", "1", 0, false),
			[]string{
				"drain arn:ip2|10.0.0.1|8080: task t1 is to stop",
				"drain arn:ip|10.0.0.1|8080: task t1 is to stop",
				begun, deregistered,
				"event (service web) deregistered 1 targets in (target-group arn:ip2)",
			}},
		{"it waits while a request is in flight", web("ip").task("t1", stop).target("ip", "1", time.Second, false), nil},
		{"for all of its targets", web("ip", "ip2").task("t1", stop).target("ip", "1", time.Second, true).
			target("ip2", "1", time.Second, false), []string{"remove arn:ip|10.0.0.1|8080: no request is in flight"}},
		{"drained, it is released", web("ip", "ip2").task("t1", stop).target("ip2", "1", time.Second, true), []string{
			"remove arn:ip2|10.0.0.1|8080: no request is in flight", "release t1: its targets are drained",
		}},
		{"at most the deregistration delay", web("ip").task("t1", stop).target("ip", "1", 300*time.Second, false), []string{
			"remove arn:ip|10.0.0.1|8080: the deregistration delay has passed", "release t1: its targets are drained",
		}},
		{"the group's own", web("ip").task("t1", stop).target("ip", "1", 10*time.Second, false).with(delay("10")), []string{
			"remove arn:ip|10.0.0.1|8080: the deregistration delay has passed", "release t1: its targets are drained",
		}},
		{"none at all", web("ip").task("t1", stop).target("ip", "1", 0, false).with(delay("0")), []string{
			"remove arn:ip|10.0.0.1|8080: task t1 is to stop, and its target group has no deregistration delay",
			"release t1: its targets are drained", deregistered,
		}},
		{"not less", web("ip").task("t1", stop).target("ip", "1", 10*time.Second, false).with(delay("11")), nil},
		{"at AWS's pace always the whole delay", web("ip").task("t1", stop).target("ip", "1", 299*time.Second, true).with(aws), nil},
		{"and no longer", web("ip").task("t1", stop).target("ip", "1", 300*time.Second, true).with(aws), []string{
			"remove arn:ip|10.0.0.1|8080: the deregistration delay has passed", "release t1: its targets are drained",
		}},
		{"a target that does not drain is not drained, whatever its old health says",
			web("ip").task("t1", stop).target("ip", "1", 0, true), []string{
				"drain arn:ip|10.0.0.1|8080: task t1 is to stop", begun, deregistered,
			}},
		{"desired STOPPED is enough", web("ip").task("t1", func(t *Task) { t.Desired = model.Stopped }).target("ip", "1", 0, false),
			[]string{"drain arn:ip|10.0.0.1|8080: task t1 is to stop", begun, deregistered}},
		{"so is an end by itself", web("ip").task("t1", status(model.Stopping)).target("ip", "1", 0, false),
			[]string{"drain arn:ip|10.0.0.1|8080: task t1 is to stop", begun, deregistered}},
		{"nothing to wait for", web("ip").task("t1", stop), []string{"release t1: it is in no target group"}},
		{"never ran", web("ip").task("t1", stop, status(model.Pending)), []string{"release t1: it never ran"}},
		{"its machine is lost", web("ip").task("t1", kill).target("ip", "1", 0, false), []string{
			"remove arn:ip|10.0.0.1|8080: task t1 is lost", "release t1: it is not to be waited for", deregistered,
		}},
		{"released once", web("ip").task("t1", stop, func(t *Task) { t.Released = true }), nil},
		{"an ended task's targets go at once", web("ip").task("t1", status(model.Stopped)).target("ip", "1", 0, false), []string{
			"remove arn:ip|10.0.0.1|8080: task t1 has ended", deregistered,
		}},
		{"those of a forgotten task too, told once", web("ip").target("ip", "1", time.Second, false), []string{
			"remove arn:ip|10.0.0.1|8080: task t1 has ended",
		}},
		{"those of a service that is gone without a word", web("ip").target("ip", "1", 0, false).with(func(in *Input) {
			in.Service = nil
		}), []string{"remove arn:ip|10.0.0.1|8080: task t1 has ended"}},
		{"a target group that is deleted holds nobody up", web("ip").task("t1", stop).target("ip", "1", 0, false).
			with(func(in *Input) { delete(in.Groups, "arn:ip") }), []string{
			"remove arn:ip|10.0.0.1|8080: its target group is gone", "release t1: its targets are drained", deregistered,
		}},
		{"tasks of no service are released at once", web().with(func(in *Input) {
			in.Service, in.Tasks = nil, []Task{
				{Task: &model.Task{ID: "b", StopRequest: &model.StopRequest{}, Observed: model.Observed{Status: model.Running}}},
				{Task: &model.Task{ID: "a", Desired: model.Stopped, Observed: model.Observed{Status: model.Pending}}},
				{Task: &model.Task{ID: "c", Desired: model.Running, Observed: model.Observed{Status: model.Running}}},
				{Task: &model.Task{ID: "d", Desired: model.Stopped, Released: true, Observed: model.Observed{Status: model.Running}}},
			}
		}), []string{"release a: it never ran", "release b: it is in no target group"}},
	})
}

// What a client deregistered comes back once it is drained, because the task behind it stays; nothing else would tell the user.
func TestDeregisteredTargetsComeBack(t *testing.T) {
	back := `register arn:ip|10.0.0.1|8080 at 10.0.0.1 for t1 of default/web in "us-east-1a": task t1 runs and is healthy`
	const stays = "remove arn:ip|10.0.0.1|8080: task t1 stays, though its target was deregistered; "
	runCases(t, []planCase{
		{"not while it drains", web("ip").task("t1").target("ip", "1", time.Second, false), nil},
		{"drained", web("ip").task("t1").target("ip", "1", time.Second, true),
			[]string{stays + "no request is in flight", back, registered}},
		{"after the delay", web("ip").task("t1").target("ip", "1", 300*time.Second, false),
			[]string{stays + "the deregistration delay has passed", back, registered}},
		{"not when the task is unhealthy", web("ip").task("t1", checked(ecstypes.HealthStatusUnhealthy)).target("ip", "1", time.Second, true),
			[]string{stays + "no request is in flight"}},
	})
}

// Another service's address is waited for, and a limit leaves the rest to the next plan, which tells only what it did.
func TestHeldAndLimited(t *testing.T) {
	f := web("ip").task("t1").task("t2").task("t3").task("t4", stop).with(func(in *Input) {
		in.Held = func(key string) bool { return key == "arn:ip|10.0.0.1|8080" }
		in.Limit = 1
	})
	line := `register arn:ip|10.0.0.%[1]d|8080 at 10.0.0.%[1]d for t%[1]d of default/web in "us-east-1a": task t%[1]d runs and is healthy`
	for _, want := range [][]string{
		{fmt.Sprintf(line, 2), registered}, {fmt.Sprintf(line, 3), registered}, {"release t4: it is in no target group"}, nil,
	} {
		actions := Plan(f.Input)
		if got := script(actions); !slices.Equal(got, want) {
			t.Errorf("plan is %q, want %q", got, want)
		}
		for _, a := range actions {
			switch a := a.(type) {
			case Register:
				f.Targets = append(f.Targets, a.Target)
			case Release:
				f.Tasks[3].Released = true
			}
		}
	}
}

func TestNextLook(t *testing.T) {
	f := web("ip").task("t1", stop).task("t2", stop).task("t3").
		target("ip", "1", 100*time.Second, false).target("ip", "2", 200*time.Second, false).target("ip", "3", 0, false)
	if got := NextLook(f.Input); !got.Equal(now.Add(100 * time.Second)) {
		t.Errorf("next look at %s, want it when the older delay ends", got)
	}
	if got := NextLook(web("ip").task("t3").target("ip", "3", 0, false).Input); !got.IsZero() {
		t.Errorf("next look at %s, want never", got)
	}
}

func delay(seconds string) func(*Input) {
	return func(in *Input) { in.Groups["arn:ip"].Attributes["deregistration_delay.timeout_seconds"] = seconds }
}

func aws(in *Input) { in.Pace = model.PaceAWS }
