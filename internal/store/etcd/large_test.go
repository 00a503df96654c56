package etcd_test

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
)

var (
	scope = model.Scope{Account: "000000000000", Region: "us-east-1"}
	noon  = time.Date(2026, 1, 2, 12, 0, 0, 123456789, time.UTC)
)

// plant is the state of a large installation: nodes, services with a revision, a deployment and a definition each, and their tasks.
type plant struct{ nodes, services, tasks int }

func hex(kind, n int) string { return fmt.Sprintf("%04x%028x", kind, n*2654435761) }

func (p plant) node(n int) *model.Node {
	return &model.Node{ID: hex(1, n), Connected: true, ConnectedAt: noon, Epoch: 3,
		Declaration: model.Declaration{Hostname: fmt.Sprint("machine-", n), Address: fmt.Sprintf("10.%d.%d.7", n>>8, n&255), CPU: 65536, Memory: 262144, ReservedPorts: []int32{22, 2375, 2376, 51678, 51679, 4566}, Arch: "amd64", Version: "v1.2.3", RuntimeVersion: "containerd 2.4.2",
			Attributes: map[string]string{"ecs.os-type": "linux", "ecs.cpu-architecture": "x86_64", "ecs.instance-type": "berth.local",
				"ecs.availability-zone": fmt.Sprint("us-east-1", string(rune('a'+n%3))), "ecs.ami-id": "berth"}}}
}

func (p plant) instance(n int) *model.Instance {
	return &model.Instance{ID: hex(2, n), ARN: scope.InstanceARN("default", hex(2, n)), Cluster: "default", NodeID: hex(1, n),
		EC2ID: "i-" + hex(2, n)[15:], RegisteredAt: noon, Status: "ACTIVE", Version: 7}
}

func (p plant) service(n int) (all []func(store.Tx)) {
	name, family, digits := fmt.Sprint("service-", n), fmt.Sprint("family-", n), fmt.Sprintf("%019d", n)
	def := &model.TaskDefinition{Family: family, Revision: 3, Definition: types.TaskDefinition{Family: &family, Revision: 3,
		TaskDefinitionArn: new(scope.TaskDefinitionARN(family, 3)), NetworkMode: types.NetworkModeAwsvpc, Cpu: new("256"), Memory: new("512"),
		Status: types.TaskDefinitionStatusActive, RequiresCompatibilities: []types.Compatibility{types.CompatibilityEc2},
		ContainerDefinitions: []types.ContainerDefinition{{Name: new("app"), Image: new(p.image(n)), Essential: new(true), Memory: new(int32(512)),
			PortMappings: []types.PortMapping{{ContainerPort: new(int32(8080)), Protocol: types.TransportProtocolTcp}},
			Environment:  []types.KeyValuePair{{Name: new("STAGE"), Value: new("production")}, {Name: new("SERVICE"), Value: &name}},
			LogConfiguration: &types.LogConfiguration{LogDriver: types.LogDriverAwslogs, Options: map[string]string{
				"awslogs-group": "/ecs/" + name, "awslogs-region": "us-east-1", "awslogs-stream-prefix": "app"}}}}}}
	service := &model.Service{Cluster: "default", Name: name, ARN: scope.ServiceARN("default", name), DesiredCount: int32(p.tasks / p.services),
		SchedulingStrategy: types.SchedulingStrategyReplica, CreatedAt: noon, Status: "ACTIVE", Steady: true, RevisionID: digits,
		Tags: []types.Tag{{Key: new("team"), Value: new(fmt.Sprint("team-", n%50))}}}
	revision := &model.ServiceRevision{ID: digits, Cluster: "default", Service: name, TaskDefinition: scope.TaskDefinitionARN(family, 3),
		LaunchType: types.LaunchTypeEc2, NetworkConfiguration: p.network(), CreatedAt: noon}
	deployment := &model.Deployment{ID: "ecs-svc/" + digits, ServiceDeploymentID: digits, Cluster: "default", Service: name, RevisionID: digits,
		Status: model.DeploymentPrimary, RolloutState: types.DeploymentRolloutStateCompleted, RolloutStateReason: "ECS deployment ecs-svc/" + digits +
			" completed.", State: types.ServiceDeploymentStatusSuccessful, CreatedAt: noon, StartedAt: noon, UpdatedAt: noon, FinishedAt: noon}
	return []func(store.Tx){
		func(tx store.Tx) { store.TaskDefinitions.Put(tx, def) }, func(tx store.Tx) { store.Services.Put(tx, service) },
		func(tx store.Tx) { store.ServiceRevisions.Put(tx, revision) }, func(tx store.Tx) { store.Deployments.Put(tx, deployment) },
	}
}

func (p plant) image(service int) string {
	return fmt.Sprintf("localhost:4566/team-%d/service-%d:v3", service%50, service)
}

func (p plant) network() *types.NetworkConfiguration {
	return &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: []string{"subnet-0a1b2c3d4e5f60718"},
		SecurityGroups: []string{"sg-0a1b2c3d4e5f60718"}, AssignPublicIp: types.AssignPublicIpDisabled}}
}

// task is one that an agent of its own reported as running.
func (p plant) task(n int) *model.Task {
	s, id := n%p.services, hex(3, n)
	name, family := fmt.Sprint("service-", s), fmt.Sprint("family-", s)
	t := &model.Task{ID: id, ARN: scope.TaskARN("default", id), Cluster: "default", TaskDefinition: scope.TaskDefinitionARN(family, 3), Family: family,
		Revision: 3, Group: "service:" + name, StartedBy: fmt.Sprintf("ecs-svc/%019d", s), Service: name,
		Deployment: fmt.Sprintf("ecs-svc/%019d", s), LaunchType: types.LaunchTypeEc2, NetworkMode: types.NetworkModeAwsvpc, NetworkConfiguration: p.network(),
		Tags: []types.Tag{{Key: new("team"), Value: new(fmt.Sprint("team-", s%50))}}, CreatedAt: noon,
		Needs: model.Resources{CPU: 256, Memory: 512, ENIs: 1}, InstanceID: hex(2, n%p.nodes), NodeID: hex(1, n%p.nodes), PlacedAt: noon, Desired: model.Running}
	t.Observed, t.Version = p.observed(n, 6), 6
	return t
}

func (p plant) observed(n int, seq int64) model.Observed {
	id := hex(3, n)
	return model.Observed{Seq: seq, Status: model.Running, Health: types.HealthStatusHealthy, PullStartedAt: noon, PullStoppedAt: noon, StartedAt: noon,
		ConnectivityAt: noon,
		Interface: &model.NetworkInterface{AttachmentID: id[:8] + "-1111-4222-8333-" + id[20:], ENIID: "eni-" + id[15:], SubnetID: "subnet-0a1b2c3d4e5f60718",
			MAC: "02:00:0a:01:02:03", IPv4: fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255), Status: "ATTACHED"},
		Containers: []model.Container{{Name: "app", ID: id[:8] + "-1111-4222-8333-" + id[20:], RuntimeID: id + "-app", Image: p.image(n % p.services),
			ImageDigest: fmt.Sprintf("sha256:%064x", n%p.services), Status: model.Running, Health: types.HealthStatusHealthy, StartedAt: noon}}}
}

// fill writes the plant in updates of many rows.
func (p plant) fill(t testing.TB, s store.Store) {
	var all []func(store.Tx)
	for n := range p.nodes {
		node, instance := p.node(n), p.instance(n)
		all = append(all, func(tx store.Tx) { store.Nodes.Put(tx, node); store.Instances.Put(tx, instance) })
	}
	for n := range p.services {
		all = append(all, p.service(n)...)
	}
	for n := range p.tasks {
		all = append(all, func(tx store.Tx) { store.Tasks.Put(tx, p.task(n)) })
	}
	for len(all) > 0 {
		some := all[:min(len(all), 2000)]
		all = all[len(some):]
		update(t, s, func(tx store.Tx) {
			for _, put := range some {
				put(tx)
			}
		})
	}
}

func update(t testing.TB, s store.Store, f func(store.Tx)) {
	t.Helper()
	if err := s.Update(context.Background(), func(tx store.Tx) error { f(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// BenchmarkLarge measures a restart with the state of 10,000 nodes, 10,000 services and 200,000 tasks, in seconds of the clock and of the
// processor, and what the state takes in memory, just written and loaded. The floor of a restart is a start of etcd that reads every
// row and does nothing with it; that of the memory is the rows' JSON.
func BenchmarkLarge(b *testing.B) {
	p := plant{10_000, 10_000, 200_000}
	dir := b.TempDir()
	before := heap()
	s := open(b, dir)
	p.fill(b, s)
	written := heap() - before
	s.Close()
	s = nil
	for b.Loop() {
		before, begun, cpu := heap(), time.Now(), processor()
		s = open(b, dir)
		b.ReportMetric(time.Since(begun).Seconds(), "restart-s")
		b.ReportMetric(processor()-cpu, "restart-cpu-s")
		b.ReportMetric(heap()-before, "loaded-MiB")
		s.Close()
		s = nil
		begun, cpu = time.Now(), processor()
		bytes := etcd.ReadOnly(b, dir)
		b.ReportMetric(time.Since(begun).Seconds(), "floor-s")
		b.ReportMetric(processor()-cpu, "floor-cpu-s")
		b.ReportMetric(float64(bytes)/(1<<20), "rows-MiB")
	}
	b.ReportMetric(written, "written-MiB")
	b.ReportMetric(0, "ns/op")
}

// processor is how many seconds of it this process has used.
func processor() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
