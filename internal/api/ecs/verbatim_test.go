package ecs

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/schemas"
)

// everything is a container definition with every member that AWS knows, but links and the others that awsvpc or bridge forbid
// beside each other.
const everything = `{
  "name": "all", "image": "repo/app:1", "repositoryCredentials": {"credentialsParameter": "arn:aws:secretsmanager:us-east-1:000000000000:secret:r"},
  "cpu": 10, "memory": 300, "memoryReservation": 200, "links": ["side:db"],
  "portMappings": [{"containerPort": 80, "hostPort": 8080, "protocol": "tcp", "name": "web", "appProtocol": "http2"}],
  "essential": true, "restartPolicy": {"enabled": true, "ignoredExitCodes": [0, 7], "restartAttemptPeriod": 180},
  "entryPoint": ["/bin/sh", "-c"], "command": ["a b", ""],
  "environment": [{"name": "A", "value": "1"}, {"name": "EMPTY", "value": ""}],
  "environmentFiles": [{"value": "arn:aws:s3:::bucket/f.env", "type": "s3"}],
  "mountPoints": [{"sourceVolume": "v", "containerPath": "/v", "readOnly": true}],
  "volumesFrom": [{"sourceContainer": "side", "readOnly": true}],
  "linuxParameters": {"capabilities": {"add": ["SYS_PTRACE"], "drop": ["ALL"]}, "devices": [{"hostPath": "/dev/fuse", "containerPath": "/dev/fuse",
    "permissions": ["read", "write"]}], "initProcessEnabled": true, "sharedMemorySize": 64, "tmpfs": [{"containerPath": "/tmp", "size": 16,
    "mountOptions": ["noexec"]}], "maxSwap": 100, "swappiness": 50},
  "secrets": [{"name": "S", "valueFrom": "arn:aws:ssm:us-east-1:000000000000:parameter/s"}],
  "dependsOn": [{"containerName": "side", "condition": "HEALTHY"}], "startTimeout": 60, "stopTimeout": 30, "versionConsistency": "disabled",
  "hostname": "h", "user": "1000:1000", "workingDirectory": "/w", "disableNetworking": false, "privileged": false, "readonlyRootFilesystem": true,
  "dnsServers": ["10.0.0.2"], "dnsSearchDomains": ["corp"], "extraHosts": [{"hostname": "x", "ipAddress": "10.0.0.3"}],
  "dockerSecurityOptions": ["no-new-privileges"], "interactive": true, "pseudoTerminal": true, "dockerLabels": {"k": "v", "e": ""},
  "ulimits": [{"name": "nofile", "softLimit": 1024, "hardLimit": 4096}],
  "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "p"},
    "secretOptions": [{"name": "o", "valueFrom": "arn:aws:ssm:us-east-1:000000000000:parameter/o"}]},
  "healthCheck": {"command": ["CMD-SHELL", "true"], "interval": 10, "timeout": 3, "retries": 2, "startPeriod": 20},
  "systemControls": [{"namespace": "net.core.somaxconn", "value": "1024"}],
  "resourceRequirements": [{"type": "GPU", "sharingStrategy": {"nvidiaMps": {"memory": 1024, "maxComputePercent": 30}}}],
  "firelensConfiguration": {"type": "fluentbit", "options": {"enable-ecs-log-metadata": "true"}},
  "credentialSpecs": ["credentialspec:arn:aws:s3:::bucket/spec.json"]
}`

// TestEveryFieldOfAContainerDefinitionComesBack registers all there is as raw JSON. That stores keep it is tested in package store.
func TestEveryFieldOfAContainerDefinitionComesBack(t *testing.T) {
	r := newRig(t)
	_, url := r.serve()
	var want map[string]any
	if err := json.Unmarshal([]byte(everything), &want); err != nil {
		t.Fatal(err)
	}
	for name := range schemas.ContainerDefinition.Members() {
		if want[name] == nil {
			t.Errorf("the test leaves out %s", name)
		}
	}
	side := `{"name": "side", "image": "side", "memory": 10, "healthCheck": {"command": ["CMD", "true"]}}`
	made := post(t, url, "RegisterTaskDefinition", `{"family": "all", "networkMode": "bridge", "volumes": [{"name": "v"}], `+
		`"executionRoleArn": "arn:aws:iam::000000000000:role/x", "containerDefinitions": [`+everything+`,`+side+`]}`)
	read := post(t, url, "DescribeTaskDefinition", `{"taskDefinition": "all"}`)
	for what, answer := range map[string]map[string]any{"RegisterTaskDefinition": made, "DescribeTaskDefinition": read} {
		got := answer["taskDefinition"].(map[string]any)["containerDefinitions"].([]any)[0].(map[string]any)
		for name, value := range want {
			if !reflect.DeepEqual(got[name], value) {
				t.Errorf("%s: %s is %v, want %v", what, name, got[name], value)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s adds members: %v", what, strings.Join(added(want, got), ", "))
		}
	}
}

// added are the members of b that a lacks.
func added(a, b map[string]any) (names []string) {
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}
