package why

import (
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// slow is after how long a step is worth a warning instead of patience.
const slow = 30 * time.Second

// hanging explains a task that is to run: what it waits for, and since when.
func hanging(t *Task, now time.Time) Finding {
	if t.NodeLost {
		return Finding{Name: "NodeLost", Level: Bad, Cause: "Its machine is lost: nobody knows whether it still runs.",
			Cures: []Cure{{Text: "Bring the machine back, or remove it; services replace their tasks elsewhere.", Do: "nodes", Command: "berth node ls"}}}
	}
	explain := rungs[t.Status]
	if explain == nil {
		return Finding{Name: "Unknown", Level: Warning, Cause: fmt.Sprintf("Its state %q is not known.", t.Status), Cures: []Cure{cure("Upgrade this program to the version of the server.")}}
	}
	return explain(t, now)
}

// rungs explain a task by the rung that it stands on.
var rungs = map[model.TaskStatus]func(t *Task, now time.Time) Finding{
	model.Provisioning: starting,
	model.Pending:      starting,
	model.Activating:   activating,
	model.Running:      running,
	model.Deactivating: func(*Task, time.Time) Finding {
		return Finding{Name: "Draining", Level: Going, Cause: "Its last requests are finished before it is stopped."}
	},
	model.Stopping: func(*Task, time.Time) Finding {
		return Finding{Name: "Stopping", Level: Going, Cause: "It was told to end."}
	},
	model.Deprovisioning: func(*Task, time.Time) Finding {
		return Finding{Name: "Deprovisioning", Level: Going, Cause: "Its containers have ended; its network is taken down."}
	},
	model.Stopped: func(*Task, time.Time) Finding { return Finding{Name: "Ended", Level: Fine, Cause: "It has ended."} },
}

// lasting is Going at first and a warning once it takes long.
func lasting(name, cause string, since, now time.Time, cures ...Cure) Finding {
	f := Finding{Name: name, Level: Going, Cause: cause, Since: since}
	if !since.IsZero() && now.Sub(since) > slow {
		f.Level, f.Cures = Warning, cures
	}
	return f
}

func starting(t *Task, now time.Time) Finding {
	switch {
	case !t.Placed && t.Refused != "":
		return Refusal(t.Refused, t.CPU, t.MemoryMiB)
	case !t.Placed:
		return lasting("Unplaced", "It waits for a machine with room for it.", t.CreatedAt, now,
			Cure{Text: "Free room, ask for less CPU or memory, or add a machine.", Do: "nodes", Command: "berth token node"})
	case t.PullStartedAt.IsZero():
		return lasting("Preparing", "Its network and volumes are made.", t.CreatedAt, now, Cure{Text: "See what hinders the node.", Command: "berth doctor"})
	case t.PullStoppedAt.IsZero():
		return lasting("Pulling", "Its images are pulled.", t.PullStartedAt, now,
			Cure{Text: "A slow registry or a large image: push the image to Berth's registry, or make it smaller.", Do: "image"})
	}
	return lasting("Creating", "Its containers are created and started.", t.PullStoppedAt, now,
		Cure{Text: "A container may wait for another: see dependsOn, and the other's lines.", Do: "logs", Command: "berth logs " + short12(t.ID)})
}

func activating(t *Task, now time.Time) Finding {
	return lasting("Activating", "It is registered with its target groups.", later(t.StartedAt, t.CreatedAt), now,
		Cure{Text: "See the health of its targets.", Do: "balancers"})
}

func running(t *Task, now time.Time) Finding {
	for i := range t.Targets {
		if f, ok := ExplainTarget(t.Targets[i]); ok && f.Level >= Warning {
			return f
		}
	}
	for i := range t.Containers {
		c := &t.Containers[i]
		switch {
		case c.Health == types.HealthStatusUnhealthy:
			return Finding{Name: "Unhealthy", Level: Bad, Container: c.Name, Cause: c.Name + "'s health check fails.",
				Cures: []Cure{{Text: "Run the check's command by hand in the container, or correct it.", Do: "revision"}, logs(t, c)}}
		case c.ExitCode != nil && !c.Essential && *c.ExitCode != 0:
			return Finding{Name: "SideExited", Level: Warning, Container: c.Name, Cause: fmt.Sprintf("%s, which is not essential, exited with %d.", c.Name, *c.ExitCode),
				Cures: []Cure{logs(t, c)}}
		case c.HasCheck && (c.Health == types.HealthStatusUnknown || c.Health == ""):
			return lasting("Checking", c.Name+"'s health check has not decided yet.", t.StartedAt, now,
				Cure{Text: "Shorten the check's interval or startPeriod.", Do: "revision"})
		}
	}
	return Finding{Name: "Running", Level: Fine, Cause: "It runs.", Since: t.StartedAt}
}
