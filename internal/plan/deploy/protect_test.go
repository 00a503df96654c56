package deploy

import (
	"testing"
	"time"
)

// protected keeps a task from its service for an hour.
func protected(t *Task) {
	running(t)
	task := *t.Task
	task.ProtectedUntil = now.Add(time.Hour)
	t.Task = &task
}

func lapsed(t *Task) { protected(t); t.ProtectedUntil = now }

func underProtection(n string, count string) string {
	return "event was unable to reach steady state because (taskSet ecs-svc/" + n + ") was unable to scale in due to (reason " + count + " tasks under protection)"
}

func TestProtection(t *testing.T) {
	scaledTo1 := func() *fixture { return service(1, 100, 200).done(1).steady() }
	runCases(t, []planCase{
		{"scaling in takes those that are not protected", scaledTo1().tasks(1, "a", running).tasks(1, "b", protected), []string{
			"stop a " + scaleText(1) + ": the service is to have 1 task",
			"service ACTIVE rev 1 steady false: the service is not steady any more"}},
		{"it waits for the others, and says so", scaledTo1().tasks(1, "abc", protected), []string{
			underProtection("1", "2"),
			"service ACTIVE rev 1 steady false: the service is not steady any more"}},
		{"a protection that has lapsed is none", scaledTo1().tasks(1, "a", running).tasks(1, "b", lapsed), []string{
			"stop b " + scaleText(1) + ": the service is to have 1 task",
			"service ACTIVE rev 1 steady false: the service is not steady any more"}},
		{"a deployment waits for protected tasks", service(2, 100, 200).rolling(2).old(1).tasks(2, "ab", running).tasks(1, "c", protected).tasks(1, "d", running), []string{
			underProtection("1", "1"),
			"stop d " + scaleText(1) + ": replaced by deployment ecs-svc/2"}},
		{"unhealthy tasks are not protected", service(1, 100, 200).rolling(1).tasks(1, "a", protected, checked(bad)), []string{
			"event (task a) failed container health checks.",
			"stop a [ServiceSchedulerInitiated Task failed container health checks]: Task failed container health checks",
			"start 1 of ecs-svc/1 replacing 1: deployment ecs-svc/1 has 0 of 1 task"}},
	})
	if at := NextLook(scaledTo1().tasks(1, "abc", protected).Input); !at.Equal(now.Add(time.Hour)) {
		t.Errorf("looks again at %s", at)
	}
}
