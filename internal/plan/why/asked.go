package why

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// askedFor explains the ends that somebody asked for, by stop code: not those of containers, which their exit codes explain.
var askedFor = map[types.TaskStopCode]func(t *Task) Finding{
	types.TaskStopCodeUserInitiated:             byUser,
	types.TaskStopCodeServiceSchedulerInitiated: byScheduler,
	types.TaskStopCodeInfrastructureHealth:      byInfrastructure,
	types.TaskStopCodeTerminationNotice:         byNotice,
	types.TaskStopCodeSpotInterruption: func(*Task) Finding {
		return Finding{Level: Warning, Cause: "Its machine was taken back.", Cures: []Cure{cure("Its service starts it elsewhere; a task of its own must be run again.")}}
	},
}

func asked(t *Task) (Finding, bool) {
	explain := askedFor[t.StopCode]
	if explain == nil {
		return Finding{}, false
	}
	f := explain(t)
	f.Name = string(t.StopCode)
	return f, true
}

func byUser(t *Task) Finding {
	if t.Reason == "" || t.Reason == "Task stopped by user" {
		return Finding{Level: Fine, Cause: "Somebody stopped it."}
	}
	return Finding{Level: Fine, Cause: "Somebody stopped it: " + clause(t.Reason) + "."}
}

func byScheduler(t *Task) Finding {
	switch {
	case has(t.Reason, "Task failed container health checks"):
		f := Finding{Level: Bad, Cause: "Its container's health check failed, so the service replaced it.",
			Cures: []Cure{{Text: "Run the health check's command by hand, or give it a longer startPeriod.", Do: "revision"}}}
		for i := range t.Containers {
			if c := &t.Containers[i]; c.Health == types.HealthStatusUnhealthy {
				f.Cause = c.Name + "'s health check failed, so the service replaced the task."
				f.Container = c.Name
				f.Cures = append(f.Cures, logs(t, c))
			}
		}
		return f
	case has(t.Reason, "Task failed ELB health checks in "):
		group := groupName(t.Reason)
		f := Finding{Level: Bad, Cause: "The load balancer's health check of it failed in " + group + ", so the service replaced it.",
			Cures: []Cure{{Text: "Check the path and the port of the target group's health check.", Do: "port"},
				{Text: "Or give slow starters a longer healthCheckGracePeriodSeconds.", Do: "grace", Value: "60"}}}
		for i := range t.Targets {
			if own, ok := ExplainTarget(t.Targets[i]); ok {
				f.Cause, f.Cures = own.Cause+" So the service replaced the task.", own.Cures
			}
		}
		return f
	case has(t.Reason, "Scaling activity initiated by"):
		return Finding{Level: Fine, Cause: "Its service made room: a deployment replaced it, or fewer tasks are wanted."}
	}
	return Finding{Level: Fine, Cause: "Its service ended it: " + clause(or(t.Reason, "it is not needed any more")) + "."}
}

// groupName is the name of the target group that a reason names by its ARN.
func groupName(reason string) string {
	_, rest, ok := strings.Cut(reason, "(target-group ")
	rest, _, _ = strings.Cut(rest, ")")
	if parts := strings.Split(rest, "/"); ok && len(parts) > 2 {
		return "target group " + parts[len(parts)-2]
	}
	return "its target group"
}

func byInfrastructure(t *Task) Finding {
	if has(t.Reason, "Its node heard no server for") {
		return Finding{Level: Warning, Cause: "Its node was cut off for longer than the service's fence, and stopped it.",
			Cures: []Cure{{Text: "Mend the network between the node and the servers.", Command: "berth node ls"}}}
	}
	return Finding{Level: Bad, Cause: "Its machine is lost: it died, or nobody can reach it.",
		Cures: []Cure{{Text: "Bring the machine back, or remove it; services replace their tasks elsewhere.", Do: "nodes", Command: "berth node ls"}}}
}

func byNotice(t *Task) Finding {
	switch {
	case has(t.Reason, "berth down"):
		return Finding{Level: Fine, Cause: "berth down stopped the tasks of its machine.", Cures: []Cure{{Text: "Start Berth again.", Command: "berth up"}}}
	case has(t.Reason, "deregistration forced by user"):
		return Finding{Level: Fine, Cause: "Its container instance was deregistered by force."}
	}
	return Finding{Level: Warning, Cause: "Its machine was to end: " + clause(or(t.Reason, "a notice came")) + ".", Cures: []Cure{{Text: "See the state of the machines.", Command: "berth node ls"}}}
}
