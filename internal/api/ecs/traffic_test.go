package ecs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// traffic is what AWS answers: a request as it goes over the wire, the error's code and text, and of a success what is there and
// what is not. Each entry was seen in traffic with AWS or in its documentation; the table runs in its order, on one state.
var traffic = []struct {
	name, op, body string
	code, text     string   // of the refusal; "" for a success
	has            []string // paths of the answer and their JSON, as "path=value"
	lacks          []string // paths that AWS leaves out
}{
	// Clusters.
	{name: "a cluster is drawn without statistics", op: "CreateCluster", body: `{"clusterName":"c"}`,
		has: []string{`cluster.statistics=[]`, `cluster.status="ACTIVE"`, `cluster.settings=[{"name":"containerInsights","value":"disabled"}]`}},
	{name: "insights' value", op: "CreateCluster", body: `{"clusterName":"x","settings":[{"name":"containerInsights","value":"on"}]}`,
		code: "InvalidParameterException", text: "Invalid setting 'value'"},
	{name: "insights' name", op: "UpdateClusterSettings", body: `{"cluster":"c","settings":[{"name":"insights","value":"enabled"}]}`,
		code: "InvalidParameterException", text: "Invalid setting 'name'"},
	{name: "what to include", op: "DescribeClusters", body: `{"clusters":["c"],"include":["EVERYTHING"]}`,
		code: "InvalidParameterException", text: "include should be one of [ATTACHMENTS,CONFIGURATIONS,SETTINGS,STATISTICS,TAGS]"},
	{name: "named twice, described once", op: "DescribeClusters", body: `{"clusters":["c","arn:aws:ecs:us-east-1:000000000000:cluster/c","c"]}`,
		has: []string{`clusters.#=1`, `failures.#=0`, `clusters.0.statistics=[]`, `clusters.0.tags=[]`, `clusters.0.settings=[]`}},
	{name: "statistics", op: "DescribeClusters", body: `{"clusters":["c"],"include":["STATISTICS"]}`,
		has: []string{`clusters.0.statistics.#=16`, `clusters.0.statistics.4={"name":"runningExternalTasksCount","value":"0"}`}},
	{name: "a null tag value", op: "TagResource", body: `{"resourceArn":"arn:aws:ecs:us-east-1:000000000000:cluster/c","tags":[{"key":"k","value":null}]}`,
		code: "InvalidParameterException", text: "Tag value can not be null."},
	{name: "tags of a cluster that is not there", op: "ListTagsForResource", body: `{"resourceArn":"arn:aws:ecs:us-east-1:000000000000:cluster/none"}`,
		code: "InvalidParameterException", text: "The specified cluster does not exist."},
	{name: "deleted", op: "DeleteCluster", body: `{"cluster":"c"}`, has: []string{`cluster.status="INACTIVE"`, `cluster.tags=[]`, `cluster.statistics=[]`}},
	{name: "tags of a deleted cluster", op: "TagResource", body: `{"resourceArn":"arn:aws:ecs:us-east-1:000000000000:cluster/c","tags":[{"key":"k","value":""}]}`,
		code: "InvalidParameterException", text: "The specified cluster is inactive. Specify an active cluster and try again."},
	{name: "update of a deleted cluster", op: "UpdateClusterSettings", body: `{"cluster":"c","settings":[{"name":"containerInsights","value":"enabled"}]}`,
		code: "ClientException", text: "Cluster was not ACTIVE."},

	// Task definitions.
	{name: "cpu that is none", op: "RegisterTaskDefinition", body: `{"family":"bad","cpu":"1 core","containerDefinitions":[{"name":"a","image":"i","memory":64}]}`,
		code: "InvalidParameterException", text: "Invalid 'cpu' setting for task."},
	{name: "memory that is none", op: "RegisterTaskDefinition", body: `{"family":"bad","memory":"much","containerDefinitions":[{"name":"a","image":"i"}]}`,
		code: "InvalidParameterException", text: "Invalid 'memory' setting for task."},
	{name: "a null tag value of a definition", op: "RegisterTaskDefinition", body: `{"family":"bad","containerDefinitions":[{"name":"a","image":"i","memory":64}],"tags":[{"key":"k"}]}`,
		code: "ClientException", text: "Tag value can not be null."},
	{name: "Fargate's log drivers", op: "RegisterTaskDefinition", body: `{"family":"bad","networkMode":"awsvpc","requiresCompatibilities":["FARGATE"],"cpu":"256",
		"memory":"512","containerDefinitions":[{"name":"a","image":"i","logConfiguration":{"logDriver":"json-file"}}]}`,
		code: "ClientException", text: "json-file is not a valid log driver. Must be one of [awslogs,splunk,awsfirelens]"},
	{name: "awslogs' options", op: "RegisterTaskDefinition", body: `{"family":"bad","containerDefinitions":[{"name":"a","image":"i","memory":64,
		"logConfiguration":{"logDriver":"awslogs","options":{"awslogs-group":"g"}}}]}`,
		code: "ClientException", text: "Log driver awslogs requires options: awslogs-region, awslogs-group"},
	{name: "a stop timeout too short", op: "RegisterTaskDefinition", body: `{"family":"bad","containerDefinitions":[{"name":"a","image":"i","memory":64,"stopTimeout":1}]}`,
		code: "ClientException", text: "Granular stop timeout on container 'a' must be at least 2 seconds."},
	{name: "attributes are derived, none invented", op: "RegisterTaskDefinition", body: `{"family":"web","cpu":"256","memory":"512",
		"containerDefinitions":[{"name":"a","image":"i","portMappings":[{"containerPort":80}]}]}`,
		has:   []string{`taskDefinition.revision=1`, `taskDefinition.compatibilities=["EXTERNAL","EC2"]`},
		lacks: []string{"taskDefinition.requiresAttributes.0", "tags.0"}},
	{name: "an image by digest", op: "RegisterTaskDefinition", body: `{"family":"digest","containerDefinitions":[{"name":"a","memory":64,
		"image":"i@sha256:0000000000000000000000000000000000000000000000000000000000000000"}]}`,
		has: []string{`taskDefinition.requiresAttributes=[{"name":"com.amazonaws.ecs.capability.docker-remote-api.1.21"}]`}},
	{name: "Windows has no attributes", op: "RegisterTaskDefinition", body: `{"family":"win","networkMode":"awsvpc","requiresCompatibilities":["FARGATE"],
		"cpu":"1024","memory":"2048","runtimePlatform":{"operatingSystemFamily":"WINDOWS_SERVER_2022_CORE"},"containerDefinitions":[{"name":"a","image":"i"}]}`,
		has: []string{`taskDefinition.compatibilities=["EC2","FARGATE"]`}, lacks: []string{"taskDefinition.requiresAttributes.0"}},
	{name: "no revision", op: "DeregisterTaskDefinition", body: `{"taskDefinition":"web"}`, code: "InvalidParameterException", text: "Revision is missing"},
	{name: "a revision that is no number", op: "DeregisterTaskDefinition", body: `{"taskDefinition":"web:foo"}`,
		code: "InvalidParameterException", text: "Invalid revision number. Number: foo"},
	{name: "the same in a run", op: "RunTask", body: `{"taskDefinition":"web:latest"}`,
		code: "InvalidParameterException", text: "Invalid revision number. Number: latest"},
	{name: "a revision that is not there", op: "DeregisterTaskDefinition", body: `{"taskDefinition":"web:7"}`,
		code: "ClientException", text: "Unable to deregister task definition."},
	{name: "failures name what was sent", op: "DeleteTaskDefinitions", body: `{"taskDefinitions":["web:1","web:9","web"]}`,
		has: []string{`failures.0.arn="web:1"`, `failures.1.arn="web:9"`, `failures.2.arn="web"`,
			`failures.0.reason="The specified task definition is still in ACTIVE status. Please deregister the target and try again."`,
			`failures.1.reason="The specified task definition does not exist. Specify a valid account, family, revision and try again."`,
			`failures.2.reason="The specified task definition identifier is invalid. Specify a valid name or ARN and try again."`}},
	{name: "deregistered", op: "DeregisterTaskDefinition", body: `{"taskDefinition":"digest:1"}`, has: []string{`taskDefinition.status="INACTIVE"`}},
	{name: "deleted", op: "DeleteTaskDefinitions", body: `{"taskDefinitions":["digest:1"]}`,
		has: []string{`taskDefinitions.0.status="DELETE_IN_PROGRESS"`}, lacks: []string{"taskDefinitions.0.deleteRequestedAt"}},
	{name: "deregistered while it is deleted", op: "DeregisterTaskDefinition", body: `{"taskDefinition":"digest:1"}`, code: "ClientException",
		text: "The task definition could not be deregistered because it is in the process of being deleted."},
	{name: "shown while it is deleted", op: "DescribeTaskDefinition", body: `{"taskDefinition":"digest:1"}`,
		has: []string{`taskDefinition.status="DELETE_IN_PROGRESS"`, `tags=[]`}, lacks: []string{"taskDefinition.deleteRequestedAt"}},
	{name: "status of a listing", op: "ListTaskDefinitions", body: `{"status":"GONE"}`, code: "ClientException", text: "Invalid task definition status."},
	{name: "sort of a listing", op: "ListTaskDefinitions", body: `{"sort":"UP"}`, code: "InvalidParameterException", text: "Invalid sort order."},
	{name: "status of families", op: "ListTaskDefinitionFamilies", body: `{"status":"GONE"}`, code: "ClientException", text: "Invalid task definition family status."},
	{name: "what to include of a definition", op: "DescribeTaskDefinition", body: `{"taskDefinition":"web","include":["ALL"]}`,
		code: "InvalidParameterException", text: "include should be one of [TAGS]"},

	// Services.
	{name: "no desired count", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web"}`, code: "InvalidParameterException", text: "DesiredCount is missing"},
	{name: "a negative one", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":-1}`,
		code: "InvalidParameterException", text: "DesiredCount can not be lesser than 0"},
	{name: "scheduling", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":1,"schedulingStrategy":"CRON"}`,
		code: "InvalidParameterException", text: "Scheduling strategy should be one of [REPLICA,DAEMON]"},
	{name: "launch type", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":1,"launchType":"MOON"}`,
		code: "InvalidParameterException", text: "launch type should be one of [EC2,FARGATE,EXTERNAL,FMI,MANAGED_INSTANCES]"},
	{name: "propagated tags", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":1,"propagateTags":"ALL"}`,
		code: "InvalidParameterException", text: "propagateTags should be one of [TASK_DEFINITION,SERVICE,NONE]"},
	{name: "maximum", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":1,"deploymentConfiguration":{"maximumPercent":201}}`,
		code: "InvalidParameterException", text: "maximumPercent must be at most 200"},
	{name: "zones without room", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":1,"availabilityZoneRebalancing":"ENABLED",
		"deploymentConfiguration":{"maximumPercent":100,"minimumHealthyPercent":0}}`, code: "InvalidParameterException",
		text: "Availability Zone Rebalancing does not support maximumPercent <= 100 % as deployment configuration."},
	{name: "the breaker's type", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":1,"deploymentConfiguration":{
		"deploymentCircuitBreaker":{"enable":true,"rollback":true,"thresholdConfiguration":{"type":"MANY","value":3}}}}`,
		code: "InvalidParameterException", text: "Invalid deployment circuit breaker threshold type."},
	{name: "the breaker's value", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":1,"deploymentConfiguration":{
		"deploymentCircuitBreaker":{"enable":true,"rollback":true,"thresholdConfiguration":{"type":"BOUNDED_PERCENT","value":101}}}}`,
		code: "InvalidParameterException", text: "Invalid deployment circuit breaker threshold value."},
	{name: "a long token", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":1,"clientToken":"0123456789012345678901234567890123456"}`,
		code: "InvalidParameterException", text: "idempotency token longer than 36."},
	{name: "a service", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":1,"clientToken":"t1","tags":[{"key":"a","value":"b"}]}`,
		has: []string{`service.deployments.#=1`, `service.deployments.0.status="PRIMARY"`, `service.tags=[{"key":"a","value":"b"}]`,
			`service.availabilityZoneRebalancing="ENABLED"`, `service.events=[]`, `service.deploymentConfiguration.deploymentCircuitBreaker.rollback=false`},
		lacks: []string{"service.taskSets", "service.roleArn"}},
	{name: "the same with other tags", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":1,"clientToken":"t1","tags":[{"key":"z","value":"z"}]}`,
		has: []string{`service.tags=[{"key":"a","value":"b"}]`}},
	{name: "the same without its token", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":1}`,
		code: "InvalidParameterException", text: "Creation of service was not idempotent."},
	{name: "another with its token", op: "CreateService", body: `{"serviceName":"s","taskDefinition":"web","desiredCount":2,"clientToken":"t1"}`,
		code: "InvalidParameterException", text: "Creation of service was not idempotent."},
	{name: "a service twice", op: "DescribeServices", body: `{"services":["s","arn:aws:ecs:us-east-1:000000000000:service/default/s","none","none"]}`,
		has: []string{`services.#=1`, `failures.#=1`, `failures.0.arn="arn:aws:ecs:us-east-1:000000000000:service/default/none"`, `failures.0.reason="MISSING"`}},
	{name: "what to include of services", op: "DescribeServices", body: `{"services":["s"],"include":["EVENTS"]}`,
		code: "InvalidParameterException", text: "include should be one of [TAGS]"},
	{name: "launch type of a listing", op: "ListServices", body: `{"launchType":"MOON"}`,
		code: "InvalidParameterException", text: "launch type should be one of [EC2,FARGATE,EXTERNAL,FMI,MANAGED_INSTANCES]"},
	{name: "scheduling of a listing", op: "ListServices", body: `{"schedulingStrategy":"CRON"}`,
		code: "InvalidParameterException", text: "Scheduling strategy should be one of [REPLICA,DAEMON]"},
	{name: "an update below nothing", op: "UpdateService", body: `{"service":"s","desiredCount":-1}`,
		code: "InvalidParameterException", text: "Task count can not be lesser than 0"},
	{name: "an update that leaves zones no room", op: "UpdateService", body: `{"service":"s","deploymentConfiguration":{"maximumPercent":100,"minimumHealthyPercent":0}}`,
		code: "InvalidParameterException", text: "Availability Zone Rebalancing does not support maximumPercent <= 100 % as deployment configuration."},
	{name: "an update shows no tags", op: "UpdateService", body: `{"service":"s","desiredCount":0}`, has: []string{`service.desiredCount=0`}, lacks: []string{"service.tags.0"}},
	{name: "a service that is not there", op: "UpdateService", body: `{"service":"none","desiredCount":0}`, code: "ServiceNotFoundException", text: "Service not found."},
	{name: "revisions of none", op: "DescribeServiceRevisions", body: `{"serviceRevisionArns":[]}`,
		code: "InvalidParameterException", text: "The Service ARN provided is invalid."},
	{name: "a revision by no ARN", op: "DescribeServiceRevisions", body: `{"serviceRevisionArns":["s"]}`,
		code: "InvalidParameterException", text: "The ServiceRevision ARN is invalid."},
	{name: "revisions of two services", op: "DescribeServiceRevisions", body: `{"serviceRevisionArns":[
		"arn:aws:ecs:us-east-1:000000000000:service-revision/default/s/1","arn:aws:ecs:us-east-1:000000000000:service-revision/default/t/1"]}`,
		code: "InvalidParameterException", text: "Cross service requests are not allowed. All requested service revisions must be for a single service"},
	{name: "revisions of a service that is not there", op: "DescribeServiceRevisions",
		body: `{"serviceRevisionArns":["arn:aws:ecs:us-east-1:000000000000:service-revision/default/none/1"]}`,
		code: "ServiceNotFoundException", text: "Service not found."},
	{name: "a revision that is not there", op: "DescribeServiceRevisions",
		body: `{"serviceRevisionArns":["arn:aws:ecs:us-east-1:000000000000:service-revision/default/s/1"]}`,
		has:  []string{`failures.#=1`, `failures.0.reason="MISSING"`, `serviceRevisions=[]`}},
	{name: "deleting one that is not there", op: "DeleteService", body: `{"service":"none"}`, code: "ServiceNotFoundException"},
	{name: "deleted", op: "DeleteService", body: `{"service":"s"}`, has: []string{`service.status="DRAINING"`, `service.desiredCount=0`}, lacks: []string{"service.tags.0"}},

	// Container instances.
	{name: "instances that are not there", op: "DescribeContainerInstances", body: `{"containerInstances":["nope","nope"]}`,
		has: []string{`failures.#=1`, `failures.0.arn="arn:aws:ecs:us-east-1:000000000000:container-instance/default/nope"`, `failures.0.reason="MISSING"`}},
	{name: "what to include of instances", op: "DescribeContainerInstances", body: `{"containerInstances":["nope"],"include":["ALL"]}`,
		code: "InvalidParameterException", text: "include should be one of [TAGS,CONTAINER_INSTANCE_HEALTH]"},

	// Tasks.
	{name: "launch type of a run", op: "RunTask", body: `{"taskDefinition":"web","launchType":"MOON"}`,
		code: "InvalidParameterException", text: "launch type should be one of [EC2,FARGATE,EXTERNAL,FMI,MANAGED_INSTANCES]"},
	{name: "a task that does not exist yet", op: "RunTask", body: `{"taskDefinition":"web","tags":[{"key":"a","value":"b"}]}`,
		has:   []string{`tasks.0.lastStatus="PENDING"`, `tasks.0.containers.0.networkInterfaces=[]`, `failures=[]`},
		lacks: []string{"tasks.0.containers.0.healthStatus", "tasks.0.containers.0.networkBindings", "tasks.0.stopCode"}},
	{name: "tasks that are not there", op: "DescribeTasks", body: `{"tasks":["nope","nope"]}`, has: []string{`failures.#=1`, `failures.0.arn="nope"`, `failures.0.reason="MISSING"`}},
	{name: "what to include of tasks", op: "DescribeTasks", body: `{"tasks":["nope"],"include":["LOGS"]}`,
		code: "InvalidParameterException", text: "include should be one of [TAGS]"},
	{name: "launch type of tasks", op: "ListTasks", body: `{"launchType":"MOON"}`,
		code: "InvalidParameterException", text: "launch type should be one of [EC2,FARGATE,EXTERNAL,FMI,MANAGED_INSTANCES]"},
	{name: "stopping one that is not there", op: "StopTask", body: `{"task":"nope"}`, code: "InvalidParameterException", text: "The referenced task was not found."},
}

// TestTraffic replays the table. What differs from AWS on purpose is not in it: clusterCount and previousStatus, which AWS sends though
// no model knows them, so that no client can read them.
func TestTraffic(t *testing.T) {
	r := newRig(t)
	r.node()
	_, url := r.serve()
	for _, c := range traffic {
		t.Run(c.op+" "+c.name, func(t *testing.T) {
			status, answer := ask(t, url, c.op, c.body)
			if c.code != "" {
				kind, _ := answer["__type"].(string)
				text, _ := answer["message"].(string)
				if status != http.StatusBadRequest || kind != c.code || text != c.text {
					t.Fatalf("got  %d %s: %s\nwant 400 %s: %s", status, kind, text, c.code, c.text)
				}
				return
			}
			if status != http.StatusOK {
				t.Fatalf("%d %v", status, answer)
			}
			for _, want := range c.has {
				path, value, _ := strings.Cut(want, "=")
				if got, _ := json.Marshal(at(answer, path)); string(got) != value {
					t.Errorf("%s is %s, want %s", path, got, value)
				}
			}
			for _, path := range c.lacks {
				if got := at(answer, path); got != nil {
					t.Errorf("%s is there: %v", path, got)
				}
			}
		})
	}
}

// TestStoppedTaskKeepsItsTags: they can be read, and no longer be changed.
func TestStoppedTaskKeepsItsTags(t *testing.T) {
	r := newRig(t)
	r.node()
	r.define("web", nil)
	arn := *r.run(1, "web")[0].TaskArn
	_, url := r.serve()
	r.observe(model.ARNTail(arn), func(t *model.Task) { t.Observed.Status = model.Stopped })
	for _, op := range []string{"TagResource", "UntagResource"} {
		body := `{"resourceArn":"` + arn + `","tags":[{"key":"a","value":"b"}],"tagKeys":["a"]}`
		status, answer := ask(t, url, op, body)
		if status != http.StatusBadRequest || answer["message"] != "The specified task is stopped. Specify a running task and try again." {
			t.Errorf("%s: %d %v", op, status, answer)
		}
	}
}

// TestDeletedServiceShowsItsLastDeployment: as PRIMARY, though nothing of it runs.
func TestDeletedServiceShowsItsLastDeployment(t *testing.T) {
	r := newRig(t)
	r.define("web", nil)
	r.create("s", nil)
	r.write(func(tx store.Tx) {
		s, _ := store.Services.Get(tx, "default/s")
		changed := *s
		changed.Status = inactive
		store.Services.Put(tx, &changed)
		for _, d := range slices.Collect(store.Deployments.Scan(tx, "default/s/")) {
			ended := *d
			ended.Status = model.DeploymentInactive
			store.Deployments.Put(tx, &ended)
		}
	})
	if d := r.describe("s").Deployments; len(d) != 1 || *d[0].Status != "PRIMARY" {
		t.Errorf("deployments of a deleted service: %+v", d)
	}
	_, err := r.describeServiceRevisions(r.ctx(), &sdk.DescribeServiceRevisionsInput{ServiceRevisionArns: []string{arnPrefix + "service-revision/default/s/1"}})
	refused(t, err, "InvalidParameterException", "Cannot call DescribeServiceRevisions for a service that is INACTIVE")
}

// ask sends a signed request as it stands.
func ask(t *testing.T, url, operation, body string) (status int, answer map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113."+operation)
	sum := sha256.Sum256([]byte(body))
	creds := aws.Credentials{AccessKeyID: "AKIDTEST", SecretAccessKey: "secret"}
	if err := v4.NewSigner().SignHTTP(req.Context(), creds, req, hex.EncodeToString(sum[:]), "ecs", scope.Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(b, &answer)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return res.StatusCode, answer
}

// at finds what a path names, nil when it is not there; # is a list's length.
func at(v any, path string) any {
	for step := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[step]
		case []any:
			if step == "#" {
				v = len(in)
				continue
			}
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}
