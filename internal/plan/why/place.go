package why

import (
	"fmt"
	"strings"
)

// refusals explain why a task has no place, by placement's code.
var refusals = map[string]func(cpu, memory int64) Finding{
	"AGENT": func(_, _ int64) Finding {
		return Finding{Cause: "No machine's agent is connected.", Cures: []Cure{{Text: "Start Berth on the machines, and see whether they are heard.", Do: "nodes", Command: "berth node ls"}}}
	},
	"RESOURCE:CPU": func(cpu, _ int64) Finding {
		return Finding{Cause: fmt.Sprintf("No machine has %d CPU units free.", cpu), Cures: room}
	},
	"RESOURCE:MEMORY": func(_, memory int64) Finding {
		return Finding{Cause: fmt.Sprintf("No machine has %d MiB of memory free.", memory), Cures: room}
	},
	"RESOURCE:PORTS": func(_, _ int64) Finding {
		return Finding{Cause: "The host port that it wants is taken on every machine, by a task or by a listener of a load balancer.",
			Cures: []Cure{{Text: "Use hostPort 0, or network mode awsvpc, so that several tasks fit on a machine.", Do: "revision"}}}
	},
	"RESOURCE:ENI": func(_, _ int64) Finding {
		return Finding{Cause: "No machine can connect another task of network mode awsvpc.", Cures: room}
	},
	"RESOURCE:GPU": func(_, _ int64) Finding {
		return Finding{Cause: "No machine has the GPUs free that it asks for.", Cures: []Cure{{Text: "End what holds them, add a machine with GPUs, or take resourceRequirements out of the task definition.", Do: "revision"}}}
	},
	"RESOURCE:FARGATE": func(_, _ int64) Finding {
		return Finding{Cause: "No machine is in the cluster.", Cures: joinIn}
	},
	"MISSING": func(_, _ int64) Finding {
		return Finding{Cause: "The container instance that was asked for does not exist.", Cures: []Cure{{Text: "Name one of those that do.", Command: "aws ecs list-container-instances"}}}
	},
	"INACTIVE": func(_, _ int64) Finding {
		return Finding{Cause: "The container instance that was asked for takes no tasks: it is draining or deregistered.",
			Cures: []Cure{{Text: "Activate it, or name another.", Do: "nodes"}}}
	},
	"distinctInstance placement constraint unsatisfied.": func(_, _ int64) Finding {
		return Finding{Cause: "Every machine has a task of it already, and it asks for distinct ones.",
			Cures: []Cure{{Text: "Add a machine, or drop the constraint distinctInstance.", Do: "nodes", Command: "berth token node"}}}
	},
	"MemberOf placement constraint unsatisfied.": func(_, _ int64) Finding {
		return Finding{Cause: "No machine satisfies its placement constraint.",
			Cures: []Cure{{Text: "Correct the memberOf expression, or put the attribute on a machine.", Do: "revision", Command: "aws ecs list-attributes --target-type container-instance"}}}
	},
	"No Container Instances were found in your cluster.": func(_, _ int64) Finding {
		return Finding{Cause: "No machine is in the cluster.", Cures: joinIn}
	},
}

var (
	room = []Cure{{Text: "Ask for less, end what is not needed, or add a machine.", Do: "nodes", Command: "berth token node"}}
	// joinIn lets a machine in.
	joinIn = []Cure{{Text: "Let a machine join, or see why those that did are not heard.", Do: "nodes", Command: "berth token node"}}
)

// Refusal explains a code of RunTask's failures[] and of placement.
func Refusal(code string, cpu, memory int64) Finding {
	explain := refusals[code]
	if explain == nil {
		return Finding{Name: code, Level: Bad, Cause: "It fits on no machine: " + clause(code) + ".", Cures: room}
	}
	f := explain(cpu, memory)
	f.Name, f.Level = code, Bad
	return f
}

// sentences of service events about placement, and the code each stands for.
var placementEvents = []struct{ has, code string }{
	{"insufficient memory", "RESOURCE:MEMORY"}, {"insufficient CPU", "RESOURCE:CPU"}, {"insufficient GPU", "RESOURCE:GPU"}, {"already using a port", "RESOURCE:PORTS"},
	{`"RESOURCE:ENI"`, "RESOURCE:ENI"}, {`"AGENT"`, "AGENT"}, {"distinctInstance", "distinctInstance placement constraint unsatisfied."},
	{"MemberOf", "MemberOf placement constraint unsatisfied."}, {"No Container Instances", "No Container Instances were found in your cluster."},
}

// refusalOf is the code that the event "was unable to place a task" tells of.
func refusalOf(event string) string {
	for _, p := range placementEvents {
		if strings.Contains(event, p.has) {
			return p.code
		}
	}
	return ""
}
