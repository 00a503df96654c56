package app

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	iamsdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/berthdev/berth/internal/pki"
)

// lines collects what a command says.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// startNode runs `berth node` until stop is called, which returns its error.
func startNode(c NodeConfig) (out *lines, stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	out, ended := &lines{}, make(chan error, 1)
	c.Runtime, c.Version = "fake", "test"
	go func() { ended <- Node(ctx, c, out) }()
	return out, func() error { cancel(); return <-ended }
}

// eventually waits until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !f(); time.Sleep(10 * time.Millisecond) { // long: other tests and programs may have the cores
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// instancesOf are the container instances by their zones: whether their agents are connected; none while none has come.
func instancesOf(t *testing.T, c *ecs.Client) map[string]bool {
	t.Helper()
	listed, err := c.ListContainerInstances(t.Context(), &ecs.ListContainerInstancesInput{})
	if err != nil {
		t.Fatal(err)
	}
	if len(listed.ContainerInstanceArns) == 0 { // which the API refuses to describe
		return nil
	}
	got, err := c.DescribeContainerInstances(t.Context(), &ecs.DescribeContainerInstancesInput{ContainerInstances: listed.ContainerInstanceArns})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, i := range got.ContainerInstances {
		for _, a := range i.Attributes {
			if *a.Name == "ecs.availability-zone" {
				all[*a.Value] = i.AgentConnected
			}
		}
	}
	return all
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestANodeJoins: a machine joins by a token of a Berth that was alone until then, tasks are placed on it by what it says of itself, it
// comes back without a token, also when the server was started anew, and what is wrong is refused in a sentence.
// executor makes a parameter and a role that may read it.
func executor(t *testing.T, c *ecs.Client) string {
	t.Helper()
	o := c.Options()
	p := ssm.New(ssm.Options{Region: o.Region, BaseEndpoint: o.BaseEndpoint, Credentials: o.Credentials})
	if _, err := p.PutParameter(t.Context(), &ssm.PutParameterInput{Name: new("secret"), Value: new("x"), Type: "SecureString"}); err != nil {
		t.Fatal(err)
	}
	i := iamsdk.New(iamsdk.Options{Region: o.Region, BaseEndpoint: o.BaseEndpoint, Credentials: o.Credentials})
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	may := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ssm:GetParameters","Resource":"*"}]}`
	role, err := i.CreateRole(t.Context(), &iamsdk.CreateRoleInput{RoleName: new("executor"), AssumeRolePolicyDocument: &trust})
	if err == nil {
		_, err = i.PutRolePolicy(t.Context(), &iamsdk.PutRolePolicyInput{RoleName: new("executor"), PolicyName: new("may"), PolicyDocument: &may})
	}
	if err != nil {
		t.Fatal(err)
	}
	return *role.Role.Arn
}

func TestANodeJoins(t *testing.T) {
	dir, own := t.TempDir(), filepath.Join(t.TempDir(), "node")
	_, client, stop := up(t, dir)
	c := client("us-east-1")

	refuse := func(c NodeConfig) error { return Node(t.Context(), c, &lines{}) }
	if err := refuse(NodeConfig{DataDir: own}); err == nil || !strings.Contains(err.Error(), "berth token node") {
		t.Errorf("a node without a token: %v", err)
	}
	var j Joining
	var err error
	eventually(t, "no token is made", func() bool {
		j, err = NewToken(t.Context(), TokenConfig{DataDir: dir, Role: "node", Advertise: freePort(t)})
		return err == nil
	})
	if err := refuse(NodeConfig{DataDir: own, Join: strings.Replace(j.URL, "bt1n", "bt1m", 1)}); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("a mistyped token: %v", err)
	}
	listen := freePort(t)
	out, stopNode := startNode(NodeConfig{DataDir: own, Join: j.URL, Listen: listen, Zone: "b", Attributes: map[string]string{"disk": "ssd"}})
	eventually(t, "the node does not come", func() bool { return instancesOf(t, c)["us-east-1b"] })
	if in, err := LoadInstance(dir); err != nil || !strings.Contains(out.String(), " of "+in.ID+": ") || !strings.Contains(out.String(), "zone us-east-1b") {
		t.Errorf("it said %q (%v)", out, err)
	}

	name := "web"
	_, err = c.RegisterTaskDefinition(t.Context(), &ecs.RegisterTaskDefinitionInput{Family: &name, ExecutionRoleArn: new(executor(t, c)), ContainerDefinitions: []types.ContainerDefinition{
		{Name: &name, Image: &name, Memory: new(int32(64)), Secrets: []types.Secret{{Name: &name, ValueFrom: new("secret")}}}}})
	if err != nil {
		t.Fatal(err)
	}
	ran, err := c.RunTask(t.Context(), &ecs.RunTaskInput{TaskDefinition: &name, PlacementConstraints: []types.PlacementConstraint{
		{Type: types.PlacementConstraintTypeMemberOf, Expression: new("attribute:disk == ssd")}}})
	if err != nil || len(ran.Tasks) != 1 {
		t.Fatalf("%+v, %v", ran, err)
	}
	status := func() string {
		got, err := c.DescribeTasks(t.Context(), &ecs.DescribeTasksInput{Tasks: []string{*ran.Tasks[0].TaskArn}})
		if err != nil || len(got.Tasks) != 1 {
			t.Fatal(err)
		}
		return *got.Tasks[0].LastStatus
	}
	eventually(t, "the task does not run", func() bool { return status() == "RUNNING" })
	if _, err := c.StopTask(t.Context(), &ecs.StopTaskInput{Task: ran.Tasks[0].TaskArn}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the task does not stop", func() bool { return status() == "STOPPED" })

	note := func() string {
		r, err := Fleet(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range r.Nodes {
			if n.Zone == "us-east-1b" {
				return strings.Join([]string{n.State, n.Note}, " ")
			}
		}
		return "unknown"
	}
	if got := note(); got != "ACTIVE " {
		t.Errorf("it is %q", got)
	}
	changeNodes(t, dir)
	relayed := ecs.NewFromConfig(aws.Config{Region: "us-east-1", BaseEndpoint: new("http://" + listen), Credentials: c.Options().Credentials})
	if all := instancesOf(t, relayed); !all["us-east-1b"] {
		t.Errorf("by the node's own relay: %v", all)
	}
	if err := ResetNode(own, &lines{}); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("a node that runs is reset: %v", err)
	}

	if err := stopNode(); err != nil {
		t.Error(err)
	}
	eventually(t, "nobody says that its beats have ended", func() bool { return strings.Contains(note(), "its kernel answers") })
	eventually(t, "the node that stopped is connected", func() bool { return !instancesOf(t, c)["us-east-1b"] })
	out, stopNode = startNode(NodeConfig{DataDir: own})
	eventually(t, "the node does not come back", func() bool { return instancesOf(t, c)["us-east-1b"] })
	eventually(t, "its beats are not heard again", func() bool { return note() == "ACTIVE " })
	stop()
	_, client, stop = up(t, dir) // its cluster port is open again
	defer stop()
	c = client("us-east-1")
	eventually(t, "the node does not come back to the next server", func() bool { return instancesOf(t, c)["us-east-1b"] })
	if err := stopNode(); err != nil {
		t.Error(err)
	}
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("it said %q", out)
	}
	if _, _, err := tryUp(t, own); err == nil || !strings.Contains(err.Error(), "berth node") {
		t.Errorf("berth up on a node's data: %v", err)
	}
	believesTheNewAuthority(t, dir, own)
	tokens, err := Tokens(t.Context(), dir)
	if err != nil || len(tokens) != 0 { // they named the old authority
		t.Errorf("tokens %+v, %v", tokens, err)
	}
	joinedAs := ""
	if in, err := LoadInstance(own); err == nil {
		joinedAs = in.NodeID
	}
	if err := refuse(NodeConfig{DataDir: filepath.Join(t.TempDir(), "late"), Join: j.URL}); err == nil || !strings.Contains(err.Error(), "berth ca rotate") {
		t.Errorf("a token of before: %v", err)
	}
	if j, err = NewToken(t.Context(), TokenConfig{DataDir: dir, Role: "node"}); err != nil {
		t.Fatal(err)
	}
	joinAgain(t, c, own, j.URL)
	if tokens, err = Tokens(t.Context(), dir); err != nil || len(tokens) != 1 || tokens[0].Uses != 1 {
		t.Fatalf("tokens %+v, %v", tokens, err)
	}
	if err := RemoveToken(t.Context(), dir, tokens[0].ID); err != nil {
		t.Error(err)
	}
	if err := refuse(NodeConfig{DataDir: filepath.Join(t.TempDir(), "later"), Join: j.URL}); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("a token that was removed: %v", err)
	}
	if err := ResetNode(dir, &lines{}); err == nil || !strings.Contains(err.Error(), "that of a server") {
		t.Errorf("a server is reset: %v", err)
	}
	if err := ResetNode(own, &lines{}); err != nil {
		t.Error(err)
	}
	if err := refuse(NodeConfig{DataDir: own}); err == nil || !strings.Contains(err.Error(), "berth token node") {
		t.Errorf("a node that was reset starts without a token: %v", err)
	}
	if in, err := LoadInstance(own); err != nil || in.NodeID == joinedAs {
		t.Errorf("it has the old id: %v", err)
	}
}

// joinAgain resets a node, which then is another one; without that it is the same.
func joinAgain(t *testing.T, c *ecs.Client, dir, url string) {
	t.Helper()
	count := func() int {
		out, err := c.ListContainerInstances(t.Context(), &ecs.ListContainerInstancesInput{})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.ContainerInstanceArns)
	}
	before := count()
	eventually(t, "the node that stopped is connected", func() bool { return !instancesOf(t, c)["us-east-1b"] })
	_, stop := startNode(NodeConfig{DataDir: dir, Join: url})
	eventually(t, "the node does not join again", func() bool { return instancesOf(t, c)["us-east-1b"] })
	if err := ResetNode(dir, &lines{}); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("a node that runs was reset: %v", err)
	}
	if err := stop(); err != nil || count() != before {
		t.Errorf("joined twice: %d nodes, were %d (%v)", count(), before, err)
	}
	var out lines
	if err := ResetNode(dir, &out); err != nil || !strings.Contains(out.String(), "berth node --join") {
		t.Errorf("reset: %v, %q", err, out.String())
	}
	said, stop := startNode(NodeConfig{DataDir: dir, Join: url})
	eventually(t, "the node that was reset does not join", func() bool { return said.String() != "" && count() == before+1 })
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// believesTheNewAuthority: berth ca rotate, and what the node in own does about it.
func believesTheNewAuthority(t *testing.T, dir, own string) {
	t.Helper()
	out := &lines{}
	if err := ShowCA(t.Context(), dir, out); err != nil || strings.Count(out.String(), "authority") != 1 {
		t.Errorf("%q, %v", out, err)
	}
	in, err := LoadInstance(own)
	if err != nil {
		t.Fatal(err)
	}
	r, err := openRemote(in, &pki.Clock{}, newLogger(false))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	before := r.identity.Load()
	if !r.believe(t.Context(), before) {
		t.Error("the node would renew without a reason")
	}
	if err := RotateCA(t.Context(), dir, false, out); err != nil || !strings.Contains(out.String(), "trusted until all nodes have renewed") || !strings.Contains(out.String(), "--finish") {
		t.Errorf("%q, %v", out, err)
	}
	eventually(t, "the node sees no other authority", func() bool { return !r.believe(t.Context(), before) })
	eventually(t, "the old authority is still trusted", func() bool {
		if !r.believe(t.Context(), r.identity.Load()) {
			_ = r.renewOnce(t.Context(), r.identity.Load())
		}
		return len(r.identity.Load().Roots) == 1
	})
	if now := r.identity.Load(); now.Issuer().Equal(before.Issuer()) || now.Peer != before.Peer {
		t.Errorf("%+v", now.Peer)
	}
}

// TestAPoolOfMachines: a task of a capacity provider waits in PROVISIONING until a machine joins that belongs to it, and runs there.
func TestAPoolOfMachines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, client, stop := up(t, dir)
	defer func() { stop() }()
	c := client("us-east-1")
	name, pool := "web", "batch"
	if _, err := c.CreateCapacityProvider(t.Context(), &ecs.CreateCapacityProviderInput{Name: &pool, AutoScalingGroupProvider: &types.AutoScalingGroupProvider{
		AutoScalingGroupArn: aws.String("arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:1:autoScalingGroupName/any")}}); err != nil {
		t.Fatal(err)
	}
	strategy := []types.CapacityProviderStrategyItem{{CapacityProvider: &pool, Weight: 1}}
	if _, err := c.PutClusterCapacityProviders(t.Context(), &ecs.PutClusterCapacityProvidersInput{Cluster: aws.String("default"), CapacityProviders: []string{pool},
		DefaultCapacityProviderStrategy: strategy}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RegisterTaskDefinition(t.Context(), &ecs.RegisterTaskDefinitionInput{Family: &name, ContainerDefinitions: []types.ContainerDefinition{
		{Name: &name, Image: &name, Memory: aws.Int32(64)}}}); err != nil {
		t.Fatal(err)
	}
	ran, err := c.RunTask(t.Context(), &ecs.RunTaskInput{TaskDefinition: &name})
	if err != nil || len(ran.Tasks) != 1 || *ran.Tasks[0].LastStatus != "PROVISIONING" {
		t.Fatalf("%+v, %v", ran, err)
	}
	if _, err := c.CreateService(t.Context(), &ecs.CreateServiceInput{ServiceName: &name, TaskDefinition: &name, DesiredCount: aws.Int32(1), CapacityProviderStrategy: strategy}); err != nil {
		t.Fatal(err)
	}
	var j Joining
	eventually(t, "no token is made", func() bool {
		j, err = NewToken(t.Context(), TokenConfig{DataDir: dir, Role: "node", Advertise: freePort(t)})
		return err == nil
	})
	_, stopNode := startNode(NodeConfig{DataDir: filepath.Join(t.TempDir(), "node"), Join: j.URL, Listen: freePort(t), Zone: "b", Attributes: map[string]string{"berth.pool": pool}})
	defer func() { _ = stopNode() }()
	eventually(t, "its tasks do not run", func() bool {
		listed, err := c.ListTasks(t.Context(), &ecs.ListTasksInput{})
		if err != nil || len(listed.TaskArns) != 2 {
			return false
		}
		got, err := c.DescribeTasks(t.Context(), &ecs.DescribeTasksInput{Tasks: listed.TaskArns})
		if err != nil {
			return false
		}
		for _, task := range got.Tasks {
			if *task.LastStatus != "RUNNING" || *task.AvailabilityZone != "us-east-1b" || *task.CapacityProviderName != pool {
				return false
			}
		}
		return true
	})
}
