package discovery

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
)

const arn = "arn:aws:servicediscovery:us-east-1:000000000000:service/srv-1"

func task(id string, status model.TaskStatus, change ...func(*Task)) Task {
	t := Task{Task: &model.Task{ID: id, Cluster: "c", Service: "web", Family: "web", Deployment: "d", NetworkMode: types.NetworkModeAwsvpc,
		Desired: model.Running}, Zone: "us-east-1a", NodeAddress: "10.0.0.9"}
	t.Observed.Status, t.Observed.Interface = status, &model.NetworkInterface{IPv4: "10.0.0." + id}
	for _, f := range change {
		f(&t)
	}
	return t
}

func input(tasks ...Task) Input {
	return Input{Cluster: "c", Service: "web", Region: "us-east-1", Names: map[string]*model.DiscoveryService{arn: {ID: "srv-1", Custom: true}},
		Registries: map[string][]types.ServiceRegistry{"d": {{RegistryArn: new(arn)}}}, Tasks: tasks, Now: time.Unix(100, 0)}
}

func TestPlan(t *testing.T) {
	bridge := func(t *Task) {
		t.NetworkMode, t.Observed.Interface = types.NetworkModeBridge, nil
		t.Observed.Containers = []model.Container{{Name: "web", NetworkBindings: []types.NetworkBinding{{ContainerPort: new(int32(80)),
			HostPort: new(int32(49153))}}}}
	}
	for name, c := range map[string]struct {
		in   Input
		want string
	}{
		"a running task is found":   {input(task("1", model.Running)), "+srv-1/1 10.0.0.1:"},
		"one that starts is not":    {input(task("1", model.Pending)), ""},
		"one that is to stop goes":  {with(input(task("1", model.Running, func(t *Task) { t.StopRequest = &model.StopRequest{} })), "1"), "-srv-1/1"},
		"one of a lost machine too": {with(input(task("1", model.Running, func(t *Task) { t.Lost = true })), "1"), "-srv-1/1"},
		"one that ended":            {with(input(), "1"), "-srv-1/1"},
		"nothing changes":           {with(input(task("1", model.Running)), "1"), ""},
		"its checks fail": {with(input(task("1", model.Running, func(t *Task) { t.ContainerChecks, t.Observed.Health = true, types.HealthStatusUnhealthy })),
			"1"), "+srv-1/1 10.0.0.1: unhealthy"},
		"no address yet":   {input(task("1", model.Running, func(t *Task) { t.Observed.Interface = nil })), ""},
		"no such registry": {func() Input { in := input(task("1", model.Running)); in.Names = nil; return in }(), ""},
		"a port of bridge": {func() Input {
			in := input(task("1", model.Running, bridge))
			in.Registries["d"][0].ContainerName, in.Registries["d"][0].ContainerPort = new("web"), new(int32(80))
			return in
		}(), "+srv-1/1 10.0.0.9:49153"},
		"bridge without a port": {input(task("1", model.Running, bridge)), ""},
		"limited, what goes before what comes": {func() Input {
			in := with(input(task("1", model.Running)), "2")
			in.Limit = 1
			return in
		}(), "-srv-1/2"},
	} {
		if got := said(Plan(c.in)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// with adds the instances that tasks of these ids have while they run.
func with(in Input, ids ...string) Input {
	for _, id := range ids {
		for _, a := range Plan(input(task(id, model.Running))) {
			in.Instances = append(in.Instances, a.(Register).Instance)
		}
	}
	return in
}

func said(actions []Action) (out string) {
	for k, a := range actions {
		if k > 0 {
			out += ", "
		}
		switch a := a.(type) {
		case Register:
			out += fmt.Sprintf("+%s %s:%s", a.Instance.Key(), a.Instance.Attributes[model.AttributeIPv4], a.Instance.Attributes[model.AttributePort])
			if a.Instance.Unhealthy {
				out += " unhealthy"
			}
		case Deregister:
			out += "-" + a.Instance.Key()
		}
	}
	return out
}

// TestPlanOfThePlanIsEmpty: once the actions are applied nothing is left to do, and exactly the tasks that may be found are.
func TestPlanOfThePlanIsEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := input()
		want := map[string]bool{}
		for k := range rapid.IntRange(0, 8).Draw(t, "tasks") {
			one := task(fmt.Sprint(k), rapid.SampledFrom([]model.TaskStatus{model.Pending, model.Running, model.Stopping}).Draw(t, "status"), func(one *Task) {
				one.Lost = rapid.Bool().Draw(t, "lost")
				if rapid.Bool().Draw(t, "stop") {
					one.StopRequest = &model.StopRequest{}
				}
			})
			in.Tasks = append(in.Tasks, one)
			if found(one) {
				want["srv-1/"+one.ID] = true
			}
		}
		for k := range rapid.IntRange(0, 12).Draw(t, "known") {
			if rapid.Bool().Draw(t, "there") {
				in = with(in, fmt.Sprint(k))
			}
		}
		in.Limit = rapid.IntRange(0, 3).Draw(t, "limit")
		have := map[string]*model.DiscoveryInstance{}
		for _, i := range in.Instances {
			have[i.Key()] = i
		}
		for range 30 {
			actions := Plan(in)
			if len(actions) == 0 {
				break
			}
			for _, a := range actions {
				switch a := a.(type) {
				case Register:
					have[a.Instance.Key()] = a.Instance
				case Deregister:
					delete(have, a.Instance.Key())
				}
			}
			in.Instances = slices.Collect(maps.Values(have))
		}
		if len(Plan(in)) > 0 || len(have) != len(want) {
			t.Fatalf("left %s; found %v, want %v", said(Plan(in)), slices.Collect(maps.Keys(have)), want)
		}
		for key := range want {
			if have[key] == nil {
				t.Fatalf("%s is not found", key)
			}
		}
	})
}
