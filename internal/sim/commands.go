package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// args are a command's words: those without "=" in their order, the others by name.
type args struct {
	words []string
	named map[string]string
}

func parseArgs(words []string) args {
	a := args{named: map[string]string{}}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			a.named[k] = v
		} else {
			a.words = append(a.words, w)
		}
	}
	return a
}

func (a args) word(n int) string {
	if n < len(a.words) {
		return a.words[n]
	}
	return ""
}

func (a args) number(name string, def int64) int64 {
	if n, err := strconv.ParseInt(a.named[name], 10, 64); err == nil {
		return n
	}
	return def
}

// optional is the number named, nil when it is absent.
func (a args) optional(name string) *int32 {
	if _, ok := a.named[name]; !ok {
		return nil
	}
	return aws.Int32(int32(a.number(name, 0)))
}

// commands are what scripts can say.
var commands = map[string]func(*Cluster, args) (string, error){
	"add-nodes":       (*Cluster).addNodes,
	"kill-node":       (*Cluster).killNode,
	"unplug-node":     (*Cluster).unplugNode,
	"revive-node":     (*Cluster).reviveNode,
	"drain-node":      (*Cluster).drainNode,
	"activate-node":   (*Cluster).activateNode,
	"restart-server":  func(c *Cluster, _ args) (string, error) { return "", c.RestartServer() },
	"register":        (*Cluster).register,
	"target-group":    (*Cluster).targetGroup,
	"create-service":  (*Cluster).createService,
	"update-service":  (*Cluster).updateService,
	"delete-service":  (*Cluster).deleteService,
	"run-task":        (*Cluster).runTask,
	"stop-task":       (*Cluster).stopTask,
	"crash":           (*Cluster).crash,
	"deregister":      (*Cluster).deregister,
	"advance":         (*Cluster).advance,
	"tasks":           (*Cluster).tasks,
	"nodes":           (*Cluster).listNodes,
	"deployments":     (*Cluster).deployments,
	"targets":         (*Cluster).targets,
	"expect-no-write": (*Cluster).expectNoWrite,
}

// Do runs one command line and returns what it prints, followed by the service events that it led to.
func (c *Cluster) Do(line string) (string, error) {
	words := strings.Fields(line)
	f := commands[words[0]]
	if f == nil {
		return "", fmt.Errorf("unknown command %q", words[0])
	}
	out, err := f(c, parseArgs(words[1:]))
	if err != nil {
		return "", err
	}
	if err := c.settle(); err != nil {
		return "", err
	}
	return c.short(out) + c.events(), nil
}

// events are the service events that were not printed yet, oldest first.
func (c *Cluster) events() string {
	var b strings.Builder
	for s := range store.Services.Scan(c.view(), "") {
		var fresh []types.ServiceEvent
		events := store.EventsOf(c.view(), s)
		for _, e := range events {
			if *e.Id == c.told[s.Key()] {
				break
			}
			fresh = append(fresh, e)
		}
		slices.Reverse(fresh)
		if len(events) > 0 {
			c.told[s.Key()] = *events[0].Id
		}
		for _, e := range fresh {
			fmt.Fprintf(&b, "+%s %s\n", e.CreatedAt.Sub(c.begin).Round(time.Millisecond), c.short(*e.Message))
		}
	}
	return b.String()
}

func (c *Cluster) addNodes(a args) (string, error) {
	n, err := strconv.Atoi(a.word(0))
	if err != nil {
		return "", fmt.Errorf("how many nodes? %w", err)
	}
	for range n {
		k := len(c.nodes) + 1
		c.addNode(model.Node{ID: fmt.Sprintf("%031xf", k),
			Declaration: model.Declaration{Hostname: fmt.Sprintf("n%d", k), Address: fmt.Sprintf("10.0.0.%d", k), CPU: a.number("cpu", 2048), Memory: a.number("memory", 4096), Arch: "amd64",
				Attributes: map[string]string{"ecs.availability-zone": string(rune('a' + (k-1)%3))}}})
	}
	return "", nil
}

// onNode finds the node that the command names.
func (c *Cluster) onNode(a args, f func(*node)) (string, error) {
	n, ok := c.node(a.word(0))
	if !ok {
		return "", fmt.Errorf("no node %q", a.word(0))
	}
	f(n)
	return "", nil
}

func (c *Cluster) killNode(a args) (string, error)   { return c.onNode(a, (*node).kill) }
func (c *Cluster) unplugNode(a args) (string, error) { return c.onNode(a, (*node).unplug) }
func (c *Cluster) reviveNode(a args) (string, error) { return c.onNode(a, (*node).revive) }

func (c *Cluster) drainNode(a args) (string, error) {
	return c.setState(a, types.ContainerInstanceStatusDraining)
}

func (c *Cluster) activateNode(a args) (string, error) {
	return c.setState(a, types.ContainerInstanceStatusActive)
}

func (c *Cluster) setState(a args, status types.ContainerInstanceStatus) (string, error) {
	n, ok := c.node(a.word(0))
	if !ok {
		return "", fmt.Errorf("no node %q", a.word(0))
	}
	i, ok := store.InstanceOn(c.view(), model.DefaultCluster, n.ID)
	if !ok {
		return "", fmt.Errorf("node %s is no instance of the default cluster", a.word(0))
	}
	_, err := c.client.UpdateContainerInstancesState(c.ctx, &sdk.UpdateContainerInstancesStateInput{
		ContainerInstances: []string{i.ID}, Status: status})
	return "", err
}

func (c *Cluster) register(a args) (string, error) {
	container := types.ContainerDefinition{Name: aws.String("main"), Image: aws.String(a.named["image"]),
		Cpu: int32(a.number("cpu", 100)), Memory: aws.Int32(int32(a.number("memory", 100)))}
	if port := a.optional("port"); port != nil {
		container.PortMappings = []types.PortMapping{{ContainerPort: port, HostPort: a.optional("host-port")}}
	}
	out, err := c.client.RegisterTaskDefinition(c.ctx, &sdk.RegisterTaskDefinitionInput{Family: aws.String(a.word(0)),
		ContainerDefinitions: []types.ContainerDefinition{container}})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s:%d\n", *out.TaskDefinition.Family, out.TaskDefinition.Revision), nil
}

// groupARN names a target group.
func (c *Cluster) groupARN(name string) string {
	return c.scope.ARN("elasticloadbalancing", "targetgroup/"+name+"/0123456789abcdef")
}

// targetGroup makes a target group that a listener forwards to. (The load balancer's API is not simulated.)
func (c *Cluster) targetGroup(a args) (string, error) {
	arn := c.groupARN(a.word(0))
	return "", c.update(func(tx store.Tx) {
		store.TargetGroups.Put(tx, &model.TargetGroup{ARN: arn, Name: a.word(0), CreatedAt: time.Now(),
			Group:      elbtypes.TargetGroup{TargetType: elbtypes.TargetTypeEnumInstance, TargetGroupArn: &arn},
			Attributes: map[string]string{"deregistration_delay.timeout_seconds": "30"}})
		store.Listeners.Put(tx, &model.Listener{ARN: "listener/" + a.word(0), Listener: elbtypes.Listener{
			DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: &arn}}}})
	})
}

// deregister is what DeregisterTargets does to the first target of a service. (The load balancer's API is not simulated.)
func (c *Cluster) deregister(a args) (string, error) {
	return "", c.update(func(tx store.Tx) {
		for old := range store.Targets.By(tx, store.ByService, model.DefaultCluster+"/"+a.word(0)) {
			if old.DrainingSince.IsZero() {
				t := *old
				t.DrainingSince = time.Now()
				store.Targets.Put(tx, &t)
				return
			}
		}
	})
}

// breaker is the circuit breaker with rollback, on or off.
func breaker(a args) *types.DeploymentConfiguration {
	out := &types.DeploymentConfiguration{MinimumHealthyPercent: a.optional("min"), MaximumPercent: a.optional("max")}
	if a.named["breaker"] != "" {
		out.DeploymentCircuitBreaker = &types.DeploymentCircuitBreaker{Enable: true, Rollback: a.named["breaker"] == "rollback"}
	}
	return out
}

func placementOf(a args) (constraints []types.PlacementConstraint, strategy []types.PlacementStrategy) {
	for _, s := range strings.FieldsFunc(a.named["strategy"], func(r rune) bool { return r == ',' }) {
		kind, field, _ := strings.Cut(s, "/")
		strategy = append(strategy, types.PlacementStrategy{Type: types.PlacementStrategyType(kind), Field: aws.String(field)})
	}
	if a.named["distinct"] != "" {
		constraints = append(constraints, types.PlacementConstraint{Type: types.PlacementConstraintTypeDistinctInstance})
	}
	return constraints, strategy
}

func (c *Cluster) createService(a args) (string, error) {
	constraints, strategy := placementOf(a)
	in := &sdk.CreateServiceInput{ServiceName: aws.String(a.word(0)), TaskDefinition: aws.String(a.named["task"]),
		DesiredCount: aws.Int32(int32(a.number("count", 1))), DeploymentConfiguration: breaker(a),
		PlacementConstraints: constraints, PlacementStrategy: strategy}
	if group := a.named["group"]; group != "" {
		in.LoadBalancers = []types.LoadBalancer{{TargetGroupArn: aws.String(c.groupARN(group)), ContainerName: aws.String("main"),
			ContainerPort: a.optional("port")}}
		in.HealthCheckGracePeriodSeconds = a.optional("grace")
	}
	_, err := c.client.CreateService(c.ctx, in)
	return "", err
}

func (c *Cluster) updateService(a args) (string, error) {
	in := &sdk.UpdateServiceInput{Service: aws.String(a.word(0)), DesiredCount: a.optional("count"),
		ForceNewDeployment: a.named["force"] != ""}
	if t := a.named["task"]; t != "" {
		in.TaskDefinition = &t
	}
	_, err := c.client.UpdateService(c.ctx, in)
	return "", err
}

func (c *Cluster) deleteService(a args) (string, error) {
	_, err := c.client.DeleteService(c.ctx, &sdk.DeleteServiceInput{Service: aws.String(a.word(0)), Force: aws.Bool(true)})
	return "", err
}

func (c *Cluster) runTask(a args) (string, error) {
	out, err := c.client.RunTask(c.ctx, &sdk.RunTaskInput{TaskDefinition: aws.String(a.word(0)), Count: a.optional("count")})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, t := range out.Tasks {
		fmt.Fprintf(&b, "%s %s\n", model.ARNTail(*t.TaskArn), *t.LastStatus)
	}
	for _, f := range out.Failures {
		fmt.Fprintf(&b, "failure %s %s\n", model.ARNTail(aws.ToString(f.Arn)), *f.Reason)
	}
	return b.String(), nil
}

// long is the id behind a short name.
func (c *Cluster) long(name string) string {
	for id, short := range c.names {
		if short == name {
			return id
		}
	}
	return name
}

func (c *Cluster) stopTask(a args) (string, error) {
	_, err := c.client.StopTask(c.ctx, &sdk.StopTaskInput{Task: aws.String(c.long(a.word(0)))})
	return "", err
}

// crash makes the container of the oldest running task of a service exit.
func (c *Cluster) crash(a args) (string, error) {
	var victim *model.Task
	for t := range store.Tasks.By(c.view(), store.ByService, model.DefaultCluster+"/"+a.word(0)) {
		if t.Observed.Status == model.Running && (victim == nil || t.CreatedAt.Before(victim.CreatedAt)) {
			victim = t
		}
	}
	if victim == nil {
		return "", fmt.Errorf("no task of %s is running", a.word(0))
	}
	for _, n := range c.nodes {
		n.mu.Lock()
		if r := n.runs[victim.ID]; r != nil {
			r.crash = true
		}
		n.mu.Unlock()
	}
	return "crashed " + victim.ID + "\n", nil
}

func (c *Cluster) advance(a args) (string, error) {
	d, err := time.ParseDuration(a.word(0))
	if err != nil {
		return "", err
	}
	return "", c.Advance(d)
}

// expectNoWrite fails when the control loop would change anything.
func (c *Cluster) expectNoWrite(args) (string, error) {
	before := c.revision()
	if _, err := c.control.Step(c.ctx); err != nil {
		return "", err
	}
	if c.revision() != before {
		return "", fmt.Errorf("the control loop changed something though nothing happened")
	}
	return "nothing to do\n", nil
}
