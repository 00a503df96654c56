package app

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// TestProtectedTasksStay: a protected task of a service outlasts scaling in, which says so, and goes once it may.
func TestProtectedTasksStay(t *testing.T) {
	b := start(Config{DataDir: t.TempDir() + "/data", Listen: freePort(t), Version: "test", Pace: "fast", Runtime: "fake"})
	defer func() {
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	}()
	c := b.client(t)
	eventually(t, "it does not answer", func() bool {
		_, err := c.ListClusters(t.Context(), &ecs.ListClustersInput{})
		return err == nil
	})
	name, role := "web", "arn:aws:iam::000000000000:role/worker"
	if _, err := c.RegisterTaskDefinition(t.Context(), &ecs.RegisterTaskDefinitionInput{Family: &name, TaskRoleArn: &role,
		ContainerDefinitions: []types.ContainerDefinition{{Name: &name, Image: &name, Memory: new(int32(64))}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no service is made", func() bool {
		_, err := c.CreateService(t.Context(), &ecs.CreateServiceInput{ServiceName: &name, TaskDefinition: &name, DesiredCount: new(int32(1))})
		return err == nil
	})
	var arn string
	eventually(t, "the service has no task", func() bool {
		out, err := c.ListTasks(t.Context(), &ecs.ListTasksInput{ServiceName: &name})
		if err != nil || len(out.TaskArns) != 1 {
			return false
		}
		arn = out.TaskArns[0]
		return *taskOf(t, c, arn).LastStatus == "RUNNING" // one that has not begun goes, protected or not
	})
	if _, err := c.UpdateTaskProtection(t.Context(), &ecs.UpdateTaskProtectionInput{Cluster: aws.String("default"), Tasks: []string{arn}, ProtectionEnabled: true,
		ExpiresInMinutes: new(int32(60))}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateService(t.Context(), &ecs.UpdateServiceInput{Service: &name, DesiredCount: new(int32(0))}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nobody says that the task is protected", func() bool {
		out, err := c.DescribeServices(t.Context(), &ecs.DescribeServicesInput{Services: []string{name}})
		return err == nil && len(out.Services[0].Events) > 0 && holds(out.Services[0].Events, "(reason 1 tasks under protection)")
	})
	if _, err := c.UpdateTaskProtection(t.Context(), &ecs.UpdateTaskProtectionInput{Cluster: aws.String("default"), Tasks: []string{arn}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the task does not go once it may", func() bool { return *taskOf(t, c, arn).LastStatus == "STOPPED" })
}

func holds(events []types.ServiceEvent, text string) bool {
	for _, e := range events {
		if len(*e.Message) > len(text) && (*e.Message)[len(*e.Message)-len(text):] == text {
			return true
		}
	}
	return false
}
