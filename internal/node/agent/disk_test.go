package agent

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

func TestTaskDisk(t *testing.T) {
	asked := func(gib int32) *types.EphemeralStorage { return &types.EphemeralStorage{SizeInGiB: gib} }
	for name, c := range map[string]struct {
		launch        types.LaunchType
		override, def *types.EphemeralStorage
		want          int64
	}{
		"EC2 has no bound":             {types.LaunchTypeEc2, nil, nil, 0},
		"Fargate has 20 GiB":           {types.LaunchTypeFargate, nil, nil, 20},
		"what the definition asks for": {types.LaunchTypeEc2, nil, asked(30), 30},
		"an override is stronger":      {types.LaunchTypeFargate, asked(40), asked(30), 40},
	} {
		task := &model.Task{LaunchType: c.launch, Overrides: types.TaskOverride{EphemeralStorage: c.override}}
		if got := taskDisk(task, &types.TaskDefinition{EphemeralStorage: c.def}); got != c.want<<30 {
			t.Errorf("%s: %d bytes", name, got)
		}
	}
}

// What a task shares with others, or with the machine, does not count against its disk.
func TestOnlyTheTasksOwnVolumesCount(t *testing.T) {
	def := &types.TaskDefinition{Volumes: []types.Volume{{Name: new("empty")},
		{Name: new("host"), Host: &types.HostVolumeProperties{SourcePath: new("/srv")}},
		{Name: new("shared"), DockerVolumeConfiguration: &types.DockerVolumeConfiguration{Scope: types.ScopeShared}},
		{Name: new("task"), DockerVolumeConfiguration: &types.DockerVolumeConfiguration{Scope: types.ScopeTask}}}}
	tk := &task{agent: &Agent{cfg: Config{VolumeDir: "/volumes"}}, dir: "/tasks/1", def: def}
	var points []types.MountPoint
	for _, v := range def.Volumes {
		points = append(points, types.MountPoint{SourceVolume: v.Name, ContainerPath: new("/" + *v.Name)})
	}
	_, mounts := tk.mounts(&container{def: types.ContainerDefinition{MountPoints: points}}, 0)
	want := map[string]bool{"/empty": true, "/host": false, "/shared": false, "/task": true}
	for _, m := range mounts {
		if m.TaskScoped != want[m.Destination] {
			t.Errorf("%s from %s: counts %v", m.Destination, m.Source, m.TaskScoped)
		}
	}
	if len(mounts) != len(want) {
		t.Errorf("%d mounts", len(mounts))
	}
}
