package app

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/serve/session/sessiontest"
)

const execPatience = 20 * time.Second

// runsWith registers a task definition and runs a task of it in a zone, with ECS Exec or without.
func runsWith(t *testing.T, c *ecs.Client, exec bool, zone string) (arn string) {
	t.Helper()
	name := "shell"
	if _, err := c.RegisterTaskDefinition(t.Context(), &ecs.RegisterTaskDefinitionInput{Family: &name, ContainerDefinitions: []types.ContainerDefinition{
		{Name: &name, Image: &name, Memory: new(int32(64))}}}); err != nil {
		t.Fatal(err)
	}
	var ran *ecs.RunTaskOutput
	eventually(t, "the task is not placed", func() bool { // a node is there a moment after it is listed
		var err error
		ran, err = c.RunTask(t.Context(), &ecs.RunTaskInput{TaskDefinition: &name, EnableExecuteCommand: exec, PlacementConstraints: []types.PlacementConstraint{
			{Type: types.PlacementConstraintTypeMemberOf, Expression: aws.String("attribute:ecs.availability-zone == " + zone)}}})
		return err == nil && len(ran.Tasks) == 1
	})
	arn = *ran.Tasks[0].TaskArn
	eventually(t, "the task does not run", func() bool { return taskOf(t, c, arn).LastStatus != nil && *taskOf(t, c, arn).LastStatus == "RUNNING" })
	return arn
}

func taskOf(t *testing.T, c *ecs.Client, arn string) types.Task {
	t.Helper()
	got, err := c.DescribeTasks(t.Context(), &ecs.DescribeTasksInput{Tasks: []string{arn}})
	if err != nil || len(got.Tasks) != 1 {
		t.Fatalf("%+v %v", got, err)
	}
	return got.Tasks[0]
}

// shellIn opens a shell in a task and speaks to it. It returns the session's id.
func shellIn(t *testing.T, c *ecs.Client, arn, word string) (*sessiontest.Client, string) {
	t.Helper()
	var out *ecs.ExecuteCommandOutput
	eventually(t, "no session is opened", func() bool {
		var err error
		out, err = c.ExecuteCommand(t.Context(), &ecs.ExecuteCommandInput{Task: &arn, Command: aws.String("/bin/sh"), Interactive: true})
		return err == nil
	})
	client := &sessiontest.Client{}
	if err := client.Dial(*out.Session.StreamUrl, *out.Session.TokenValue); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(client.Type("echo "+word+"\r"), client.Hear(word, execPatience), client.Type("stty size\r"), client.Hear("40 120", execPatience)); err != nil {
		t.Fatal(err)
	}
	return client, *out.Session.SessionId
}

func leaves(t *testing.T, c *sessiontest.Client) {
	t.Helper()
	if err := c.Type("exit 0\r"); err != nil {
		t.Error(err)
	}
	if words, err := c.Ended(execPatience); err != nil || words != "" {
		t.Errorf("ended with %q %v", words, err)
	}
}

// TestExecEverywhere: a shell in any machine's task, opened at any server, also when the one that leads is not the one that has the
// machine's session.
func TestExecEverywhere(t *testing.T) {
	t.Parallel()
	first := start(Config{DataDir: filepath.Join(t.TempDir(), "data"), Listen: freePort(t), Advertise: portPair(t), Version: "test", Pace: "fast", Runtime: "fake"})
	c := first.client(t)
	eventually(t, "it does not answer", func() bool {
		_, err := c.ListClusters(t.Context(), &ecs.ListClustersInput{})
		return err == nil
	})
	eventually(t, "the first's node does not come", func() bool { return instancesOf(t, c)["us-east-1a"] })
	here := runsWith(t, c, true, "us-east-1a")
	refusals(t, c, here)
	client, id := shellIn(t, c, here, "alone")
	resumes(t, c, client, id)

	servers := []*berth{first}
	for range 2 {
		servers = append(servers, joined(t, first))
	}
	var j Joining
	eventually(t, "no token is made", func() bool {
		var err error
		j, err = NewToken(t.Context(), TokenConfig{DataDir: first.conf.DataDir, Role: "node"})
		return err == nil
	})
	_, stopNode := startNode(NodeConfig{DataDir: filepath.Join(t.TempDir(), "node"), Join: j.URL, Listen: freePort(t), Zone: "b"})
	eventually(t, "the node does not come", func() bool { return instancesOf(t, c)["us-east-1b"] })
	there := runsWith(t, c, true, "us-east-1b")
	for i, b := range servers {
		for _, arn := range []string{here, there} {
			client, _ := shellIn(t, b.client(t), arn, fmt.Sprint("at-", i))
			leaves(t, client)
		}
	}
	voting(t, first.conf.DataDir)
	last, _ := shellIn(t, c, here, "last")
	if err := first.stop(); err != nil {
		t.Error(err)
	}
	if words, err := last.Ended(execPatience); err != nil || words == "" {
		t.Errorf("a restart ended the session with %q %v", words, err)
	}
	if _, err := servers[1].client(t).CreateCluster(t.Context(), &ecs.CreateClusterInput{ClusterName: aws.String("after")}); err != nil {
		t.Error(err)
	}
	first = start(first.conf) // it follows, and holds the session of its own node
	c = servers[2].client(t)
	eventually(t, "the first's node does not come back", func() bool { return instancesOf(t, c)["us-east-1a"] })
	again := runsWith(t, c, true, "us-east-1a")
	for _, arn := range []string{again, there} {
		client, _ := shellIn(t, first.client(t), arn, "later")
		leaves(t, client)
	}
	for _, stop := range []func() error{stopNode, first.stop, servers[1].stop, servers[2].stop} {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

// joined starts a server that joins another.
func joined(t *testing.T, first *berth) *berth {
	t.Helper()
	var j Joining
	eventually(t, "no token is made", func() bool {
		var err error
		j, err = NewToken(t.Context(), TokenConfig{DataDir: first.conf.DataDir, Role: "server"})
		return err == nil
	})
	b := start(Config{DataDir: filepath.Join(t.TempDir(), "data"), Listen: freePort(t), Advertise: portPair(t), Join: j.URL, Version: "test", Pace: "fast"})
	eventually(t, "a server does not answer", func() bool {
		_, err := b.client(t).ListClusters(t.Context(), &ecs.ListClustersInput{})
		return err == nil
	})
	return b
}

// resumes breaks a session's connection and goes on with it, as the plugin does, by the same endpoint.
func resumes(t *testing.T, c *ecs.Client, client *sessiontest.Client, id string) {
	t.Helper()
	o := c.Options()
	systems := ssm.New(ssm.Options{Region: o.Region, BaseEndpoint: o.BaseEndpoint, Credentials: o.Credentials})
	client.Drop()
	out, err := systems.ResumeSession(t.Context(), &ssm.ResumeSessionInput{SessionId: &id})
	if err != nil || *out.TokenValue == "" || !strings.Contains(*out.StreamUrl, id) {
		t.Fatalf("%+v %v", out, err)
	}
	if err := errors.Join(client.Dial(*out.StreamUrl, *out.TokenValue), client.Type("echo back\r"), client.Hear("back", execPatience)); err != nil {
		t.Fatal(err)
	}
	if _, err := systems.TerminateSession(t.Context(), &ssm.TerminateSessionInput{SessionId: &id}); err != nil {
		t.Error(err)
	}
	if words, err := client.Ended(execPatience); err != nil || !strings.Contains(words, "was ended") {
		t.Errorf("terminated with %q %v", words, err)
	}
	eventually(t, "a session that ended is resumed", func() bool {
		out, err := systems.ResumeSession(t.Context(), &ssm.ResumeSessionInput{SessionId: &id})
		return err == nil && *out.TokenValue == ""
	})
}

// refusals are AWS's.
func refusals(t *testing.T, c *ecs.Client, arn string) {
	t.Helper()
	agents := taskOf(t, c, arn).Containers[0].ManagedAgents
	if len(agents) != 1 || agents[0].Name != types.ManagedAgentNameExecuteCommandAgent || *agents[0].LastStatus != "RUNNING" || agents[0].LastStartedAt == nil {
		t.Errorf("managed agents %+v", agents)
	}
	without := runsWith(t, c, false, "us-east-1a")
	if agents := taskOf(t, c, without).Containers[0].ManagedAgents; len(agents) != 0 {
		t.Errorf("managed agents %+v", agents)
	}
	ended := runsWith(t, c, true, "us-east-1a")
	if _, err := c.StopTask(t.Context(), &ecs.StopTaskInput{Task: &ended}); err != nil {
		t.Fatal(err)
	}
	sh := aws.String("/bin/sh")
	for name, r := range map[string]struct {
		in         ecs.ExecuteCommandInput
		code, text string
	}{
		"not interactive": {ecs.ExecuteCommandInput{Task: &arn, Command: sh}, "InvalidParameterException", "Interactive is the only mode supported currently."},
		"not enabled":     {ecs.ExecuteCommandInput{Task: &without, Command: sh, Interactive: true}, "InvalidParameterException", "agent isn’t running"},
		"no task": {ecs.ExecuteCommandInput{Task: aws.String("0123456789abcdef0123456789abcdef"), Command: sh, Interactive: true}, "InvalidParameterException",
			"The referenced task was not found."},
		"no container": {ecs.ExecuteCommandInput{Task: &arn, Container: aws.String("x"), Command: sh, Interactive: true}, "InvalidParameterException", "was not found"},
		"no cluster":   {ecs.ExecuteCommandInput{Cluster: aws.String("x"), Task: &arn, Command: sh, Interactive: true}, "ClusterNotFoundException", "Cluster not found."},
		"open quote":   {ecs.ExecuteCommandInput{Task: &arn, Command: aws.String("sh -c 'x"), Interactive: true}, "InvalidParameterException", "quotation"},
		"ended":        {ecs.ExecuteCommandInput{Task: &ended, Command: sh, Interactive: true}, "InvalidParameterException", "not running or is stopping"},
	} {
		_, err := c.ExecuteCommand(t.Context(), &r.in)
		if refusal, ok := errors.AsType[smithy.APIError](err); !ok || refusal.ErrorCode() != r.code || !strings.Contains(refusal.ErrorMessage(), r.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWithoutSecrets(t *testing.T) {
	for line, want := range map[string]string{
		"ls -la /":                                  "ls -la /",
		"psql --password=hunter2 -U me":             "psql --password=*** -U me",
		"mysql --password hunter2":                  "mysql --password ***",
		"sh -c DB_PASSWORD=x;API_TOKEN: y run":      "",
		"curl -H X-Auth-Token:abc http://localhost": "curl -H X-Auth-Token:*** http://localhost",
	} {
		words := strings.Fields(line)
		if strings.HasPrefix(line, "sh -c") {
			words = []string{"sh", "-c", strings.TrimPrefix(line, "sh -c ")}
		}
		got := withoutSecrets(words)
		for _, secret := range []string{"hunter2", "=x", ": y", "abc"} {
			if strings.Contains(got, secret) {
				t.Errorf("%q became %q", line, got)
			}
		}
		if want != "" && got != want {
			t.Errorf("%q became %q, want %q", line, got, want)
		}
	}
}
