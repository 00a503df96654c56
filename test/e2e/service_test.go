package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// balanced makes a load balancer with one target group and a service behind it. It returns the service's address.
func (b *berth) balanced(definition string, desired int32) string {
	b.t.Helper()
	ctx, client := context.Background(), elb.NewFromConfig(b.config())
	port := int32(freePort(b.t))
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
	_, err = client.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancers[0].LoadBalancerArn, Port: &port,
		Protocol: elbtypes.ProtocolEnumHttp, DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: group}}})
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = b.ecs().CreateService(ctx, &ecs.CreateServiceInput{ServiceName: aws.String("web"), TaskDefinition: &definition,
		DesiredCount: &desired, NetworkConfiguration: network, HealthCheckGracePeriodSeconds: aws.Int32(5),
		LoadBalancers: []types.LoadBalancer{{TargetGroupArn: group, ContainerName: aws.String("web"), ContainerPort: aws.Int32(80)}},
		DeploymentConfiguration: &types.DeploymentConfiguration{
			DeploymentCircuitBreaker: &types.DeploymentCircuitBreaker{Enable: true, Rollback: true}}})
	if err != nil {
		b.t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}

func (b *berth) service(name string) (types.Service, error) {
	out, err := b.ecs().DescribeServices(context.Background(), &ecs.DescribeServicesInput{Services: []string{name}})
	if err != nil {
		return types.Service{}, err
	}
	if len(out.Services) != 1 {
		return types.Service{}, fmt.Errorf("service %s: %v", name, out.Failures)
	}
	return out.Services[0], nil
}

func (b *berth) stable(name string) types.Service {
	b.t.Helper()
	var s types.Service
	b.eventually(60*time.Second, name+" is stable", func() (err error) {
		if s, err = b.service(name); err == nil && (len(s.Deployments) != 1 || s.RunningCount != s.DesiredCount ||
			s.Deployments[0].RolloutState != types.DeploymentRolloutStateCompleted) {
			err = fmt.Errorf("%d deployments, %d of %d running: %s", len(s.Deployments), s.RunningCount, s.DesiredCount, events(s, 4))
		}
		return err
	})
	return s
}

func events(s types.Service, n int) string {
	var all []string
	for _, e := range s.Events[:min(n, len(s.Events))] {
		all = append(all, *e.Message)
	}
	return strings.Join(all, " | ")
}

// load asks address again and again from two clients until stop is called, which returns how many requests failed and why.
func load(address string) (stop func() (total, failed int64, why string)) {
	var n, bad atomic.Int64
	var first atomic.Value
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	for range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			client := &http.Client{Timeout: 10 * time.Second}
			for ctx.Err() == nil {
				n.Add(1)
				res, err := client.Get(address + "/")
				switch {
				case err != nil:
					bad.Add(1)
					first.CompareAndSwap(nil, err.Error())
				case res.StatusCode != 200:
					bad.Add(1)
					first.CompareAndSwap(nil, res.Status)
				}
				if err == nil {
					res.Body.Close()
				}
				time.Sleep(2 * time.Millisecond)
			}
		}()
	}
	return func() (int64, int64, string) {
		cancel()
		<-done
		<-done
		why, _ := first.Load().(string)
		return n.Load(), bad.Load(), why
	}
}

func (b *berth) tasks(service string) []string {
	b.t.Helper()
	out, err := b.ecs().ListTasks(context.Background(), &ecs.ListTasksInput{ServiceName: &service})
	if err != nil {
		b.t.Fatal(err)
	}
	return out.TaskArns
}

func TestServiceHealsAndNoRequestFails(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	def := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		Environment:  []types.KeyValuePair{{Name: aws.String("NAME"), Value: aws.String("one")}},
		PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80)}}})
	address := b.balanced(def, 2)
	b.stable("web")
	b.eventually(5*time.Second, "the load balancer answers", func() error {
		status, body, _, err := get(address)
		if err == nil && (status != 200 || !strings.HasPrefix(body, "one ")) {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	})
	stop := load(address)

	// A task that a user stops is drained first and replaced.
	old := b.tasks("web")
	if _, err := b.ecs().StopTask(context.Background(), &ecs.StopTaskInput{Task: &old[0]}); err != nil {
		t.Fatal(err)
	}
	b.reaches(old[0], "STOPPED")
	b.stable("web")

	// A new revision replaces all, within the limits.
	next := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		Environment:  []types.KeyValuePair{{Name: aws.String("NAME"), Value: aws.String("two")}},
		PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80)}}})
	if _, err := b.ecs().UpdateService(context.Background(), &ecs.UpdateServiceInput{Service: aws.String("web"), TaskDefinition: &next}); err != nil {
		t.Fatal(err)
	}
	b.stable("web")
	if _, body, _, _ := get(address); !strings.HasPrefix(body, "two ") {
		t.Errorf("after the deployment: %q", body)
	}
	if total, failed, why := stop(); failed > 0 || total < 50 {
		t.Errorf("%d of %d requests failed: %s", failed, total, why)
	}

	// A crash is seen and healed.
	victim := b.tasks("web")[0]
	var pid int
	fmt.Sscan(webPID(t, victim), &pid)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.reaches(victim, "STOPPED")
	b.stable("web")

	// Deleting ends everything.
	if _, err := b.ecs().DeleteService(context.Background(), &ecs.DeleteServiceInput{Service: aws.String("web"), Force: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	b.eventually(30*time.Second, "the service is INACTIVE", func() error {
		s, err := b.service("web")
		if err == nil && *s.Status != "INACTIVE" {
			err = fmt.Errorf("%s with %d running", *s.Status, s.RunningCount)
		}
		return err
	})
}

func TestBadDeploymentRollsBack(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	ports := []types.PortMapping{{ContainerPort: aws.Int32(80)}}
	good := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"), PortMappings: ports})
	address := b.balanced(good, 1)
	b.stable("web")
	stop := load(address)
	bad := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		Command: []string{"exit", "1"}, PortMappings: ports})
	if _, err := b.ecs().UpdateService(context.Background(), &ecs.UpdateServiceInput{Service: aws.String("web"), TaskDefinition: &bad}); err != nil {
		t.Fatal(err)
	}
	b.eventually(60*time.Second, "the rollback", func() error {
		s, err := b.service("web")
		if err == nil && (*s.TaskDefinition != good || len(s.Deployments) != 1 || s.RunningCount != 1) {
			err = fmt.Errorf("on %s with %d deployments: %s", *s.TaskDefinition, len(s.Deployments), events(s, 3))
		}
		return err
	})
	if total, failed, why := stop(); failed > 0 {
		t.Errorf("%d of %d requests failed during the bad deployment: %s", failed, total, why)
	}
	s, err := b.service("web")
	if err != nil {
		t.Fatal(err)
	}
	if all := events(s, 100); !strings.Contains(all, "deployment failed: tasks failed to start.") || !strings.Contains(all, "rolling back to deployment") {
		t.Errorf("events: %s", all)
	}
}

func TestServiceGoesOnAfterKillsOfEverything(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	def := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80)}}})
	address := b.balanced(def, 2)
	for round := range 6 { // also while it is still starting
		b.signal(syscall.SIGKILL)
		b.up()
		desired := int32(1 + round%3)
		if _, err := b.ecs().UpdateService(context.Background(), &ecs.UpdateServiceInput{Service: aws.String("web"), DesiredCount: &desired}); err != nil {
			t.Fatal(err) // an acknowledged write before the next kill
		}
		time.Sleep(time.Duration(round*150) * time.Millisecond)
	}
	s := b.stable("web")
	if s.DesiredCount != 3 {
		t.Errorf("desired count %d after kills, 3 was acknowledged", s.DesiredCount)
	}
	b.killContainerd()
	b.eventually(20*time.Second, "a new task starts after containerd died", func() error {
		arn := b.run(def, 1, types.NetworkModeAwsvpc)[0]
		b.reaches(arn, "RUNNING")
		return nil
	})
	b.stable("web")
	if status, _, _, err := get(address); err != nil || status != 200 {
		t.Errorf("after all kills: %d %v", status, err)
	}
}
