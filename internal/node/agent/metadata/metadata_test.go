package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
)

const id = "0123456789abcdef0123456789abcdef"

var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// one is a node with one task, whose containers do not run when usage is nil.
type one struct {
	view  *agent.View
	usage func(runtimeID string) (agent.Usage, error)
}

func (o one) Container(runtimeID string) (*agent.View, string, bool) {
	return o.view, "web", runtimeID == id+"-web"
}

func (o one) Credentials(credentials string) (*agent.View, bool) {
	return o.view, credentials == o.view.CredentialsID
}

func (o one) Usage(_ context.Context, runtimeID string) (agent.Usage, error) {
	if o.usage == nil {
		return agent.Usage{}, agent.ErrNotRunning
	}
	return o.usage(runtimeID)
}

// counter issues credentials that last an hour, or fails.
type counter struct {
	now    *time.Time
	issued int
	err    error
}

func (c *counter) Issue(_ context.Context, role, session string) (RoleCredentials, error) {
	c.issued++
	return RoleCredentials{AccessKeyID: "ASIA" + role, SecretAccessKey: "s", Token: session, Expiration: c.now.Add(time.Hour)}, c.err
}

func aTask() *agent.View {
	web := types.ContainerDefinition{
		Name: new("web"), Image: new("nginx:1"), Cpu: 99, Memory: new(int32(100)), DockerLabels: map[string]string{"a": "b"},
		PortMappings:     []types.PortMapping{{ContainerPort: new(int32(80)), Protocol: types.TransportProtocolTcp}},
		LogConfiguration: &types.LogConfiguration{LogDriver: types.LogDriverAwslogs, Options: map[string]string{"awslogs-group": "/g"}},
		HealthCheck:      &types.HealthCheck{Command: []string{"CMD", "true"}},
	}
	return &agent.View{
		Task: &model.Task{ID: id, ARN: "arn:aws:ecs:us-east-1:000000000000:task/shop/" + id, Cluster: "shop", Family: "web", Revision: 7,
			Service: "front", LaunchType: types.LaunchTypeFargate, NetworkMode: types.NetworkModeAwsvpc,
			Tags: []types.Tag{{Key: new("team"), Value: new("blue")}}},
		Definition: types.TaskDefinition{Cpu: new("256"), Memory: new("512"), ContainerDefinitions: []types.ContainerDefinition{web}},
		Containers: []types.ContainerDefinition{web},
		Observed: model.Observed{Status: model.Running, StartedAt: start, PullStartedAt: start, PullStoppedAt: start,
			Containers: []model.Container{{Name: "web", ID: "11111111-2222-3333-4444-555555555555", RuntimeID: id + "-web", ImageDigest: "sha256:d",
				Status: model.Running, StartedAt: start, Health: types.HealthStatusHealthy}}},
		RoleARN: "arn:role", CredentialsID: "secret-id",
		Networks: map[string]agent.NetworkInfo{"web": {IPv4: "10.0.0.7", Gateway: "10.0.0.1", MAC: "02:00:00:00:00:07"}},
	}
}

// Anyone lets every request through.
func Anyone(*http.Request, *agent.View) bool { return true }

func ask(h http.Handler, path, from string) (int, string) {
	r := httptest.NewRequest("GET", path, nil)
	r.RemoteAddr = from + ":40000"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestShapes(t *testing.T) {
	s := New(Config{Tasks: one{view: aTask()}, AvailabilityZone: "us-east-1a", Subnet: netip.MustParsePrefix("10.0.0.0/16"), Now: func() time.Time { return start }})
	h := s.Handler(FromTask)
	const container = `{"DockerId":"0123456789abcdef0123456789abcdef-web","Name":"web","DockerName":"ecs-web-7-web-11111111222233334444","Image":"nginx:1",` +
		`"ImageID":"sha256:d","Ports":[{"ContainerPort":80,"Protocol":"tcp","HostPort":80}],"Labels":{"a":"b","com.amazonaws.ecs.cluster":"shop",` +
		`"com.amazonaws.ecs.container-name":"web","com.amazonaws.ecs.task-arn":"arn:aws:ecs:us-east-1:000000000000:task/shop/0123456789abcdef0123456789abcdef",` +
		`"com.amazonaws.ecs.task-definition-family":"web","com.amazonaws.ecs.task-definition-version":"7"},"DesiredStatus":"RUNNING","KnownStatus":"RUNNING",` +
		`"Limits":{"CPU":99,"Memory":100},"CreatedAt":"2026-11-20T12:00:00Z","StartedAt":"2026-11-20T12:00:00Z","Type":"NORMAL","Health":{"status":"HEALTHY"},` +
		`"LogDriver":"awslogs","LogOptions":{"awslogs-group":"/g"},` +
		`"ContainerARN":"arn:aws:ecs:us-east-1:000000000000:container/shop/0123456789abcdef0123456789abcdef/11111111-2222-3333-4444-555555555555",` +
		`"Networks":[{"NetworkMode":"awsvpc","IPv4Addresses":["10.0.0.7"],"AttachmentIndex":0,"MACAddress":"02:00:00:00:00:07","IPv4SubnetCIDRBlock":"10.0.0.0/16",` +
		`"PrivateDNSName":"ip-10-0-0-7.ec2.internal","SubnetGatewayIpv4Address":"10.0.0.1/16"}]}`
	task := func(tags string) string {
		return `{"Cluster":"arn:aws:ecs:us-east-1:000000000000:cluster/shop","TaskARN":"arn:aws:ecs:us-east-1:000000000000:task/shop/0123456789abcdef0123456789abcdef",` +
			`"Family":"web","Revision":"7","DesiredStatus":"RUNNING","KnownStatus":"RUNNING","Limits":{"CPU":0.25,"Memory":512},` +
			`"PullStartedAt":"2026-11-20T12:00:00Z","PullStoppedAt":"2026-11-20T12:00:00Z","AvailabilityZone":"us-east-1a","LaunchType":"FARGATE",` + tags +
			`"Containers":[` + container + `],"ServiceName":"front","FaultInjectionEnabled":false}`
	}
	for path, want := range map[string]string{
		"/v4/" + id + "-web":              container,
		"/v4/" + id + "-web/":             container,
		"/v4/" + id + "-web/task":         task(""),
		"/v4/" + id + "-web/taskWithTags": task(`"TaskTags":{"team":"blue"},`),
		"/v4/" + id + "-web/stats":        "null",
		"/v4/" + id + "-web/task/stats":   `{"` + id + `-web":null}`,
	} {
		if code, got := ask(h, path, "10.0.0.7"); code != 200 || got != want {
			t.Errorf("%s: %d\n got %s\nwant %s", path, code, got, want)
		}
	}
	if _, got := ask(h, "/v3/"+id+"-web", "10.0.0.7"); !strings.Contains(got, `"Networks":[{"NetworkMode":"awsvpc","IPv4Addresses":["10.0.0.7"]}]`) {
		t.Errorf("version 3: %s", got)
	}
}

func TestOnlyTheTaskItselfIsAnswered(t *testing.T) {
	now := start
	s := New(Config{Tasks: one{view: aTask()}, Credentials: &counter{now: &now}, Now: func() time.Time { return now }})
	for _, c := range []struct {
		path, from string
		guard      Guard
		want       int
	}{
		{"/v4/" + id + "-web", "10.0.0.8", FromTask, 404},
		{"/v4/" + id + "-web", "10.0.0.8", Anyone, 200},
		{"/v4/other", "10.0.0.7", FromTask, 404},
		{"/v4/" + id + "-web/what", "10.0.0.7", FromTask, 404},
		{"/v4", "10.0.0.7", FromTask, 404},
		{"/", "10.0.0.7", FromTask, 404},
		{"/v2/credentials/secret-id", "10.0.0.7", FromTask, 200},
		{"/v2/credentials/secret-id", "10.0.0.8", FromTask, 400},
		{"/v2/credentials/other", "10.0.0.7", FromTask, 400},
		{"/v2/credentials", "10.0.0.7", FromTask, 400},
	} {
		if code, body := ask(s.Handler(c.guard), c.path, c.from); code != c.want {
			t.Errorf("%s from %s: %d %s, want %d", c.path, c.from, code, body, c.want)
		}
	}
	r := httptest.NewRecorder()
	s.Handler(Anyone).ServeHTTP(r, httptest.NewRequest("POST", "/v4/"+id+"-web", nil))
	if r.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", r.Code)
	}
}

func TestCredentialsAreRenewedBeforeTheyExpire(t *testing.T) {
	now := start
	issuer := &counter{now: &now}
	h := New(Config{Tasks: one{view: aTask()}, Credentials: issuer, Now: func() time.Time { return now }}).Handler(FromTask)
	get := func() map[string]string {
		code, body := ask(h, "/v2/credentials/secret-id", "10.0.0.7")
		out := map[string]string{}
		if err := json.Unmarshal([]byte(body), &out); err != nil || code != 200 {
			t.Fatalf("%d %s %v", code, body, err)
		}
		return out
	}
	want := map[string]string{"RoleArn": "arn:role", "AccessKeyId": "ASIAarn:role", "SecretAccessKey": "s", "Token": id, "Expiration": "2026-11-20T13:00:00Z"}
	got := get()
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	now = start.Add(44 * time.Minute)
	get()
	if issuer.issued != 1 {
		t.Errorf("issued %d times within their life", issuer.issued)
	}
	now = start.Add(46 * time.Minute)
	if get(); issuer.issued != 2 {
		t.Errorf("issued %d times", issuer.issued)
	}
	now = start.Add(3 * time.Hour)
	issuer.err = errors.New("no such role")
	if code, body := ask(h, "/v2/credentials/secret-id", "10.0.0.7"); code != 500 || strings.Contains(body, "no such role") {
		t.Errorf("%d %s", code, body)
	}
}

func TestThrottle(t *testing.T) {
	now := start
	h := New(Config{Tasks: one{view: aTask()}, Now: func() time.Time { return now }}).Handler(Anyone)
	count := func(n int) (ok int) {
		for range n {
			if code, _ := ask(h, "/v4/"+id+"-web/stats", "10.0.0.7"); code == 200 {
				ok++
			}
		}
		return ok
	}
	if n := count(100); n != 60 {
		t.Errorf("%d of a burst of 100", n)
	}
	now = now.Add(time.Second)
	if n := count(100); n != 40 {
		t.Errorf("%d in the second after", n)
	}
}
