package app

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"golang.org/x/sys/unix"
)

// TestAFullDisk fills a small disk to its last byte: nothing new is taken, what runs can be stopped, before and after a start on the full
// disk, and when there is room again everything goes on.
func TestAFullDisk(t *testing.T) {
	if os.Getenv("BERTH_INTEGRATION") == "" || os.Geteuid() != 0 {
		t.Skip("mounts a file system: needs BERTH_INTEGRATION=1 and root")
	}
	disk := t.TempDir()
	if err := unix.Mount("berth-test", disk, "tmpfs", 0, "size=900m"); err != nil {
		t.Skip("cannot mount: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir, filler := filepath.Join(disk, "data"), filepath.Join(disk, "filler")
	_, client, stop := up(t, dir)
	c := client("us-east-1")
	name := "web"
	_, err := c.RegisterTaskDefinition(t.Context(), &ecs.RegisterTaskDefinitionInput{Family: &name, ContainerDefinitions: []types.ContainerDefinition{
		{Name: &name, Image: &name, Memory: new(int32(16))}}})
	if err != nil {
		t.Fatal(err)
	}
	ran, err := c.RunTask(t.Context(), &ecs.RunTaskInput{TaskDefinition: &name, Count: new(int32(3))})
	if err != nil || len(ran.Tasks) != 3 {
		t.Fatal(ran, err)
	}
	fill(t, filler)
	_, err = c.RunTask(t.Context(), &ecs.RunTaskInput{TaskDefinition: &name})
	refused(t, "a task on a full disk", err, "ServerException", "disk is full")
	ends(t, c, *ran.Tasks[0].TaskArn)
	stop()
	fill(t, filler) // also what the ballast gave
	_, client, stop = up(t, dir)
	defer func() { stop() }()
	c = client("us-east-1")
	ends(t, c, *ran.Tasks[1].TaskArn)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if again, err := c.RunTask(t.Context(), &ecs.RunTaskInput{TaskDefinition: &name}); err != nil || len(again.Tasks) != 1 {
		t.Errorf("with room again: %+v, %v", again, err)
	}
}

// fill takes what is left of the disk.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	end := info.Size()
	for step := int64(64 << 20); step >= 4096; step /= 2 { // others write meanwhile: one that fails is tried with less
		for unix.Fallocate(int(f.Fd()), 0, end, step) == nil {
			end += step
		}
	}
	t.Logf("%d MiB were left and are taken", (end-info.Size())>>20)
}

// ends stops a task and waits until it is STOPPED.
func ends(t *testing.T, c *ecs.Client, arn string) {
	t.Helper()
	if _, err := c.StopTask(t.Context(), &ecs.StopTaskInput{Task: &arn}); err != nil {
		t.Fatalf("stop %s: %v", arn, err)
	}
	if err := ecs.NewTasksStoppedWaiter(c, func(o *ecs.TasksStoppedWaiterOptions) { o.MinDelay, o.MaxDelay = 100*time.Millisecond, time.Second }).Wait(
		t.Context(), &ecs.DescribeTasksInput{Tasks: []string{arn}}, 30*time.Second); err != nil {
		t.Errorf("%s does not end: %v", arn, err)
	}
}
