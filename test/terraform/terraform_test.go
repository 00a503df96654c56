// Package terraform promises that people's stacks apply: each folder beside this file is one, as the AWS provider's popular modules make
// them. It is applied, planned empty, changed, planned empty and destroyed, and nothing is left then. A folder is taken as it is:
// to add a stack, add a folder.
//
// A stack may have the variables change (bool: what "changed" means), port (a free TCP port) and name. One with a file named real runs
// containers; the others run on a Berth whose machine is in memory, and need no root.
package terraform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
)

// plugins is a mirror with the AWS provider.
const plugins = "/opt/tf-plugins"

func TestStacks(t *testing.T) {
	bin, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("SKIP the stacks of test/terraform: terraform is not installed")
	}
	if _, err := os.Stat(plugins); err != nil {
		t.Skip("SKIP the stacks of test/terraform: the AWS provider is not at " + plugins)
	}
	if os.Getenv("BERTH_INTEGRATION") != "1" || os.Getenv("BERTH_BIN") == "" {
		t.Skip("an integration test: run `make integration`")
	}
	folders, err := filepath.Glob("*/*.tf")
	if err != nil || len(folders) == 0 {
		t.Fatalf("no stacks: %v", err)
	}
	var stacks []string
	for _, f := range folders {
		stacks = append(stacks, filepath.Dir(f))
	}
	for _, stack := range slices.Compact(stacks) {
		t.Run(stack, func(t *testing.T) {
			t.Parallel() // the provider spends its time waiting
			_, err := os.Stat(filepath.Join(stack, "real"))
			if err == nil && os.Getuid() != 0 {
				t.Skip("needs root: its tasks run")
			}
			runtime := "fake"
			if err == nil {
				runtime = "containerd"
			}
			b := start(t, runtime)
			s := &terraform{berth: b, bin: bin, dir: copied(t, stack)}
			s.live()
		})
	}
}

// terraform is one stack on its way.
type terraform struct {
	*berth
	bin, dir string
	vars     []string
}

// live is the whole life of a stack.
func (s *terraform) live() {
	before := s.inventory()
	s.write("terraformrc", `provider_installation { filesystem_mirror { path = "`+plugins+`" } }`)
	text := s.text()
	if strings.Contains(text, `variable "port"`) {
		s.vars = append(s.vars, fmt.Sprintf("port=%d", freePort(s.t)))
	}
	s.must("init", "-no-color", "-input=false")
	stages := []string{"false"}
	if strings.Contains(text, `variable "change"`) {
		stages = append(stages, "true")
	} else {
		s.t.Error(`the stack has no variable "change": what would one change of it?`)
	}
	for _, stage := range stages {
		vars := append(slices.Clone(s.vars), "change="+stage)
		s.must(with(vars, "apply", "-no-color", "-input=false", "-auto-approve")...)
		if out, err := s.run(with(vars, "plan", "-no-color", "-input=false", "-detailed-exitcode")...); err != nil {
			s.t.Errorf("the plan after apply (change=%s) is not empty: %v\n%s", stage, err, out)
		}
	}
	s.must(with(append(s.vars, "change=true"), "destroy", "-no-color", "-input=false", "-auto-approve")...)
	if after := s.inventory(); after != before {
		s.t.Errorf("something is left:\n%s\nand there was\n%s", after, before)
	}
}

func with(vars []string, args ...string) []string {
	for _, v := range vars {
		args = append(args, "-var", v)
	}
	return args
}

func (s *terraform) text() (all string) {
	files, _ := filepath.Glob(filepath.Join(s.dir, "*.tf"))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			s.t.Fatal(err)
		}
		all += string(data)
	}
	return all
}

func (s *terraform) write(name, text string) {
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *terraform) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.bin, args...)
	cmd.Dir = s.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+filepath.Join(s.dir, "terraformrc"), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1",
		"AWS_ENDPOINT_URL="+s.url(), "AWS_ACCESS_KEY_ID="+s.key, "AWS_SECRET_ACCESS_KEY="+s.secret, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_MAX_ATTEMPTS=3")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *terraform) must(args ...string) {
	s.t.Helper()
	if out, err := s.run(args...); err != nil {
		s.t.Fatalf("terraform %s: %v\n%s", args[0], err, out)
	}
}

// copied is a copy of a stack, where Terraform may write.
func copied(t *testing.T, stack string) string {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(stack)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// berth is a server of the test's own.
type berth struct {
	t           *testing.T
	dir         string
	port        int
	key, secret string
	cmd         *exec.Cmd
	log         bytes.Buffer
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (b *berth) url() string { return fmt.Sprintf("http://127.0.0.1:%d", b.port) }

func start(t *testing.T, runtime string) *berth {
	dir, err := os.MkdirTemp("", "berth-tf-")
	if err != nil {
		t.Fatal(err)
	}
	b := &berth{t: t, dir: dir, port: freePort(t)}
	args := []string{"--data-dir", dir, "up", "--listen", fmt.Sprintf("127.0.0.1:%d", b.port)}
	if runtime == "fake" {
		args = append(args, "--runtime", "fake")
	}
	b.cmd = exec.Command(os.Getenv("BERTH_BIN"), args...)
	b.cmd.Stdout, b.cmd.Stderr = &b.log, &b.log
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.cmd.Process.Signal(syscall.SIGTERM)
		b.cmd.Wait()
		if out, err := exec.Command(os.Getenv("BERTH_BIN"), "--data-dir", dir, "down", "--purge", "--now").CombinedOutput(); err != nil {
			t.Errorf("berth down: %v\n%s", err, out)
		}
		if t.Failed() {
			t.Logf("Berth's log:\n%s", tail(b.log.String()))
		}
		os.RemoveAll(dir)
	})
	deadline := time.Now().Add(30 * time.Second)
	for b.login() != nil {
		if time.Now().After(deadline) {
			t.Fatalf("Berth does not answer\n%s", b.log.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
	return b
}

func tail(s string) string { return s[max(0, len(s)-8000):] }

// login waits for the API with the root key.
func (b *berth) login() error {
	data, err := os.ReadFile(filepath.Join(b.dir, "root-key.json"))
	if err != nil {
		return err
	}
	var key map[string]string
	if err := json.Unmarshal(data, &key); err != nil {
		return err
	}
	for name, value := range key {
		switch {
		case strings.HasPrefix(value, "AKIA"):
			b.key = value
		case strings.Contains(strings.ToLower(name), "secret"):
			b.secret = value
		}
	}
	_, err = ec2.NewFromConfig(b.config()).DescribeVpcs(b.t.Context(), &ec2.DescribeVpcsInput{})
	return err
}

func (b *berth) config() aws.Config {
	return aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(b.url()), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(b.key, b.secret, "")}
}

// inventory counts what there is, as clients see it.
func (b *berth) inventory() string {
	b.t.Helper()
	ctx, conf := context.Background(), b.config()
	var all []string
	count := func(what string, n int, err error) {
		if err != nil {
			b.t.Errorf("count %s: %v", what, err)
		}
		all = append(all, fmt.Sprintf("%s %d", what, n))
	}
	net := ec2.NewFromConfig(conf)
	vpcs, err := net.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	count("vpcs", len(vpcs.Vpcs), err)
	subnets, err := net.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{})
	count("subnets", len(subnets.Subnets), err)
	tables, err := net.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{})
	count("route tables", len(tables.RouteTables), err)
	igws, err := net.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{})
	count("internet gateways", len(igws.InternetGateways), err)
	addresses, err := net.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{})
	count("addresses", len(addresses.Addresses), err)
	acls, err := net.DescribeNetworkAcls(ctx, &ec2.DescribeNetworkAclsInput{})
	count("access lists", len(acls.NetworkAcls), err)
	groups, err := net.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{})
	count("security groups", len(groups.SecurityGroups), err)
	balancers := elb.NewFromConfig(conf)
	lbs, err := balancers.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})
	count("load balancers", len(lbs.LoadBalancers), err)
	targets, err := balancers.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{})
	count("target groups", len(targets.TargetGroups), err)
	tasks := ecs.NewFromConfig(conf)
	clusters, err := tasks.ListClusters(ctx, &ecs.ListClustersInput{})
	count("clusters", len(clusters.ClusterArns), err)
	definitions, err := tasks.ListTaskDefinitions(ctx, &ecs.ListTaskDefinitionsInput{Status: ecstypes.TaskDefinitionStatusActive})
	count("task definitions", len(definitions.TaskDefinitionArns), err)
	logs, err := cloudwatchlogs.NewFromConfig(conf).DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{})
	count("log groups", len(logs.LogGroups), err)
	people := iam.NewFromConfig(conf)
	roles, err := people.ListRoles(ctx, &iam.ListRolesInput{})
	count("roles", len(roles.Roles), err)
	users, err := people.ListUsers(ctx, &iam.ListUsersInput{})
	count("users", len(users.Users), err)
	policies, err := people.ListPolicies(ctx, &iam.ListPoliciesInput{Scope: iamtypes.PolicyScopeTypeLocal})
	count("policies", len(policies.Policies), err)
	return strings.Join(all, "\n")
}
