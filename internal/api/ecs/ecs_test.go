package ecs

import (
	"encoding/json"
	"reflect"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/store"
)

// TestStoredValuesSurviveJSON: everything that the operations store comes back from the durable store as it was.
func TestStoredValuesSurviveJSON(t *testing.T) {
	r := newRig(t)
	r.node()
	r.targetGroup("ip", true)
	r.define("web", func(in *sdk.RegisterTaskDefinitionInput) {
		fargate(in)
		c := &in.ContainerDefinitions[0]
		in.ExecutionRoleArn, in.Tags = new("role"), []types.Tag{{Key: new("a"), Value: new("b")}}
		in.Volumes = []types.Volume{{Name: new("v"), Host: &types.HostVolumeProperties{}}}
		c.HealthCheck = &types.HealthCheck{Command: []string{"CMD", "true"}}
		c.LogConfiguration = &types.LogConfiguration{LogDriver: "awslogs", Options: map[string]string{"awslogs-group": "g", "awslogs-region": "r"}}
		c.MountPoints = []types.MountPoint{{SourceVolume: new("v"), ContainerPath: new("/v")}}
		c.LinuxParameters = &types.LinuxParameters{InitProcessEnabled: new(true)}
		c.DockerLabels = map[string]string{"l": "1"}
	})
	r.create("s", func(in *sdk.CreateServiceInput) {
		in.LaunchType, in.NetworkConfiguration, in.HealthCheckGracePeriodSeconds = "FARGATE", subnets(), new(int32(5))
		in.LoadBalancers = []types.LoadBalancer{{TargetGroupArn: new(groupARN), ContainerName: new("web"),
			ContainerPort: new(int32(80))}}
		in.ServiceConnectConfiguration = &types.ServiceConnectConfiguration{Enabled: false}
	})
	out := ok(r.runTask(r.ctx(), &sdk.RunTaskInput{TaskDefinition: new("web"), LaunchType: "FARGATE",
		NetworkConfiguration: subnets(),
		ClientToken:          new("t"), Overrides: &types.TaskOverride{ContainerOverrides: []types.ContainerOverride{
			{Name: new("web"), Command: []string{"true"}}}}}))(t)
	ok(r.stopTask(r.ctx(), &sdk.StopTaskInput{Task: out.Tasks[0].TaskArn}))(t)
	ok(r.putAccountSetting(r.ctx(), &sdk.PutAccountSettingInput{Name: "awsvpcTrunking", Value: new("enabled")}))(t)
	rows := 0
	r.store.View(func(v store.Reader) {
		for _, kind := range store.Schema() {
			for row := range v.ScanRows(kind.Name, "") {
				rows++
				b, err := json.Marshal(row)
				if err != nil {
					t.Fatalf("%s: %v", kind.Name, err)
				}
				back, err := kind.Decode(b)
				if err != nil {
					t.Fatalf("%s: %v\n%s", kind.Name, err, b)
				}
				if !reflect.DeepEqual(row, back) {
					t.Errorf("%s changed:\n%s", kind.Name, b)
				}
			}
		}
	})
	if rows < 12 {
		t.Errorf("only %d rows were looked at", rows)
	}
}
