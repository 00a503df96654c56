package deploy

import "testing"

func gone(t *Task) { t.Lost = true }

// TestLost: a lost machine's tasks are replaced at once, and ended when their replacements are healthy.
func TestLost(t *testing.T) {
	why := "its machine is lost and the service has "
	runCases(t, []planCase{
		{"replacements start at once", service(3, 100, 200).done(1).tasks(1, "ab", running).tasks(1, "c", running, gone), []string{
			"start 1 of ecs-svc/1: deployment ecs-svc/1 has 2 of 3 tasks"}},
		{"also where there may not be more than desired", service(2, 100, 100).done(1).tasks(1, "a", running).tasks(1, "c", running, gone), []string{
			"start 1 of ecs-svc/1: deployment ecs-svc/1 has 1 of 2 tasks"}},
		{"until they are healthy the old ones are kept", service(2, 100, 200).done(1).tasks(1, "a", running).tasks(1, "c", running, gone).
			tasks(1, "d", fresh), nil},
		{"and then ended", service(2, 100, 200).done(1).tasks(1, "ad", running).tasks(1, "c", running, gone), []string{
			"end c: " + why + "2 healthy tasks"}},
		{"as many as are stood in for", service(3, 100, 200).done(1).tasks(1, "ad", running).tasks(1, "ce", running, gone).tasks(1, "f"), []string{
			"end c: " + why + "2 healthy tasks"}},
		{"an older deployment's first", service(2, 0, 200).rolling(2).old(1).tasks(2, "a", running).tasks(2, "b", running, gone).
			tasks(1, "c", running, gone).tasks(2, "d"), []string{"end c: " + why + "1 healthy task"}},
		{"one that was to stop at once", service(1, 100, 200).done(1).tasks(1, "a", running, gone, scaledIn).tasks(1, "b"), []string{
			"end a: its machine is lost and it was to stop"}},
		{"they do not make a deployment arrive", service(1, 100, 200).rolling(1).tasks(1, "a", running, gone).tasks(1, "b"), nil},
		{"nor keep it from arriving", service(1, 100, 200).rolling(1).tasks(1, "a", running, gone).tasks(1, "b", running), []string{
			"put ecs-svc/1 rev 1 PRIMARY COMPLETED SUCCESSFUL: all of its tasks are healthy", "end a: " + why + "1 healthy task",
			"event (deployment ecs-svc/1) deployment completed."}},
		{"one that is back before its replacement is healthy counts again, and the newcomer goes", service(1, 100, 200).done(1).
			tasks(1, "a", running).tasks(1, "b", fresh), []string{
			"stop b " + scaleText(1) + ": the service is to have 1 task"}},
		{"the service is deleted", service(1, 100, 200).done(1).tasks(1, "a", running, gone).with(func(in *Input) { in.Service.Status = statusDraining }),
			[]string{"end a: its machine is lost and the service is deleted"}},
	})
}
