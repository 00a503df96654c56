package why

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// Service is what is known of a service.
type Service struct {
	Cluster, Name             string
	Status                    string
	Desired, Running, Pending int32
	CPU, Memory               int64 // of one task
	Deployments               []Deployment
	Events                    []types.ServiceEvent // newest first
	Tasks                     []Task               // that have not ended
	Ended                     []Task               // those that ended lately, newest first
	Targets                   []Target
	Problems                  []string // of its load balancer's listeners
	ThrottledUntil            time.Time
	Failures                  int // consecutive tasks that never ran
}

// Deployment is what is known of a deployment.
type Deployment struct {
	ID, Status  string
	Rollout     types.DeploymentRolloutState
	Reason      string // rolloutStateReason
	State       types.ServiceDeploymentStatus
	StateReason string
	FailedTasks int32
	StartedAt   time.Time
}

// restarts is how many ends within restartsIn are worth a word.
const (
	restarts   = 3
	restartsIn = 10 * time.Minute
	stuckAfter = 3 * time.Minute
)

// ExplainService says what is wrong with a service, the worst first; nothing: it is steady, or on its way there without trouble.
func ExplainService(s Service, now time.Time) []Finding {
	var all []Finding
	if s.Status != "" && s.Status != "ACTIVE" {
		return []Finding{{Name: s.Status, Level: Going, Cause: "The service is deleted; its last tasks end."}}
	}
	for _, p := range s.Problems {
		all = append(all, Problem(p))
	}
	failures := lately(s.Ended, now)
	all = append(all, s.ends(failures, now)...)
	all = append(all, s.targets()...)
	if s.Running < s.Desired {
		all = append(all, s.unplaced()...)
	}
	for _, d := range s.Deployments {
		if f, ok := ExplainDeployment(d, now); ok {
			all = append(all, f)
		}
	}
	if missing := s.Desired - s.Running; missing > 0 && worst(all) < Warning {
		f := Finding{Name: "Short", Level: Going, Cause: fmt.Sprintf("%d of %d tasks run; the others are on their way.", s.Running, s.Desired)}
		for _, t := range s.Tasks {
			if own := Explain(t, now); own.Level > f.Level {
				f = own
			}
		}
		all = append(all, f)
	}
	return Worst(unique(all))
}

func worst(fs []Finding) (l Level) {
	for _, f := range fs {
		l = max(l, f.Level)
	}
	return l
}

func unique(fs []Finding) []Finding {
	seen := map[string]bool{}
	var out []Finding
	for _, f := range fs {
		if !seen[f.Cause] {
			seen[f.Cause] = true
			out = append(out, f)
		}
	}
	return out
}

// lately are the ended tasks of the last minutes that ended badly.
func lately(ended []Task, now time.Time) (bad []Task) {
	for _, t := range ended {
		if now.Sub(t.StoppedAt) > restartsIn {
			continue
		}
		if f := Explain(t, now); f.Level >= Warning {
			bad = append(bad, t)
		}
	}
	return bad
}

// ends tells of tasks that end again and again, by the newest of them.
func (s *Service) ends(bad []Task, now time.Time) []Finding {
	if len(bad) == 0 {
		return nil
	}
	f := Explain(bad[0], now)
	f.Since = bad[len(bad)-1].StoppedAt
	if len(bad) == 1 && s.Running >= s.Desired {
		f.Level = Warning
	}
	if len(bad) >= restarts {
		f.Cause = fmt.Sprintf("%d tasks ended in the last 10 minutes; the last: %s", len(bad), f.Cause)
	}
	out := []Finding{f}
	if s.ThrottledUntil.After(now) {
		out = append(out, Finding{Name: "Throttled", Level: Warning,
			Cause: fmt.Sprintf("The next start waits %s, because the last ones failed.", s.ThrottledUntil.Sub(now).Round(time.Second)),
			Cures: []Cure{{Text: "Deploy a revision that is mended: that ends the pause.", Do: "revision"}}})
	}
	return out
}

func (s *Service) targets() (all []Finding) {
	sick := map[string]int{}
	for _, t := range s.Targets {
		f, ok := ExplainTarget(t)
		if !ok || f.Level < Warning {
			continue
		}
		if sick[f.Name]++; sick[f.Name] == 1 {
			all = append(all, f)
		}
	}
	for i := range all {
		if n := sick[all[i].Name]; n > 1 {
			all[i].Cause = fmt.Sprintf("%d of %d targets: %s", n, len(s.Targets), all[i].Cause)
		}
	}
	return all
}

// unplaced tells why tasks that are missing have no place, by the newest event of that.
func (s *Service) unplaced() []Finding {
	for i := range s.Events {
		m := str(s.Events[i].Message)
		if strings.Contains(m, "has started ") || strings.Contains(m, "has reached a steady state") {
			return nil // it had a place since
		}
		if f, ok := ExplainEvent(m, s.CPU, s.Memory); ok && f.Level == Bad && strings.Contains(m, "was unable to") {
			f.Since = at(s.Events[i].CreatedAt)
			return []Finding{f}
		}
	}
	return nil
}

// deploymentReasons explain how deployments end, by what their reason contains. The first that fits counts.
var deploymentReasons = []struct {
	has     string
	level   Level
	explain string
	cures   []Cure
}{
	{"There is no completed deployment to roll back to", Bad, "The deployment failed, and there is no earlier one to go back to.", []Cure{{Text: "Mend the task definition and deploy it: its tasks say why they failed.", Do: "revision"}}},
	{"circuit breaker: rolling back", Going, "The last deployment's tasks failed, so the service goes back to the one before.", []Cure{{Text: "See why its tasks ended before you deploy again.", Do: "tasks"}}},
	{"circuit breaker threshold was exceeded", Bad, "The deployment was given up: too many of its tasks failed.", []Cure{{Text: "See why its tasks ended, mend that and deploy again.", Do: "tasks"}}},
	{"circuit breaker", Bad, "The deployment was given up: too many of its tasks failed.", []Cure{{Text: "See why its tasks ended, mend that and deploy again.", Do: "tasks"}}},
	{"rollback failed", Bad, "The way back to the earlier revision failed too.", []Cure{{Text: "Deploy a revision that is known to work.", Do: "revision"}}},
	{"rollback stopped because", Fine, "A newer deployment took its place.", nil},
	{"stopped by the user: rolling back", Going, "Somebody stopped the last deployment; the service goes back to the one before.", nil},
	{"stopped by the user", Warning, "Somebody stopped the deployment; the service stays as it was then.", []Cure{{Text: "Deploy again, or go back to an earlier revision.", Do: "revision"}}},
	{"because the user stopped it", Fine, "Somebody stopped the deployment, and the service went back.", nil},
	{"replaces it", Fine, "A newer deployment took its place.", nil},
	{"because the service is deleted", Fine, "The service is deleted.", nil},
	{" completed.", Fine, "The deployment is complete.", nil},
	{" in progress.", Going, "The deployment is under way.", nil},
}

// DeploymentReason explains a rolloutStateReason or a service deployment's statusReason; false: nobody knows it.
func DeploymentReason(reason string) (Finding, bool) {
	for _, r := range deploymentReasons {
		if strings.Contains(reason, r.has) {
			return Finding{Name: "Deployment", Level: r.level, Cause: r.explain, Cures: r.cures}, true
		}
	}
	return Finding{}, false
}

// ExplainDeployment explains a deployment that is stuck, failed or going back; false: nothing is to be said of it.
func ExplainDeployment(d Deployment, now time.Time) (Finding, bool) {
	if d.Status == model.DeploymentInactive {
		return Finding{}, false
	}
	f, ok := DeploymentReason(d.Reason)
	if !ok || f.Level == Fine || d.Status != model.DeploymentPrimary && d.Rollout != types.DeploymentRolloutStateFailed {
		return f, false
	}
	f.Since = d.StartedAt
	if d.Rollout == types.DeploymentRolloutStateInProgress && f.Level == Going && f.Cures == nil {
		if now.Sub(d.StartedAt) <= stuckAfter || d.StartedAt.IsZero() {
			return f, false
		}
		f.Name, f.Level = "DeploymentStuck", Warning
		f.Cause = fmt.Sprintf("The deployment has been under way for %s.", now.Sub(d.StartedAt).Round(time.Second))
		f.Cures = []Cure{{Text: "See which of its tasks are not healthy, or go back to the earlier revision.", Do: "tasks"}}
	}
	return f, true
}

// events explain a service's events that tell of trouble, by what they contain. The first that fits counts.
var events = []struct {
	has   string
	cause string
	cures []Cure
}{
	{"was unable to start a task because the task definition", "The task definition of the deployment is gone.", []Cure{{Text: "Update the service to another task definition.", Do: "revision"}}},
	{"was unable to stop or start tasks during a deployment", "minimumHealthyPercent and maximumPercent leave the deployment no room to move.", []Cure{{Text: "Raise maximumPercent, or lower minimumHealthyPercent.", Do: "percent"}}},
	{"tasks under protection", "The service has fewer tasks to run, and those that are left protect themselves from being ended.", []Cure{{Text: "Wait until their protection ends, or end it with update-task-protection."}}},
	{"could not be looked after", "Berth itself failed at this service, and tries again.", []Cure{{Text: "The server's log says more; report it if it stays.", Command: "berth doctor"}}},
	{"cannot be stopped", "A container does not end, not even when it is killed.", []Cure{{Text: "Its process hangs in the kernel: mend the disk or NFS server it waits for, or restart the machine.", Command: "berth doctor"}}},
	{"runs on, but the shim", "A container runs, and its shim does not answer.", []Cure{{Text: "Nothing needs to be done while it serves; it ends when its process does."}}},
	{"is unable to consistently start tasks", "Its tasks fail again and again, so each start waits longer.", []Cure{{Text: "See why its tasks ended, mend that and deploy again.", Do: "tasks"}}},
	{"failed container health checks", "A task's own health check failed.", []Cure{{Text: "Run the check's command by hand, or give it a longer startPeriod.", Do: "revision"}}},
	{"is unhealthy in (target-group", "A task failed its load balancer's health check.", []Cure{{Text: "Check the path and port of the health check.", Do: "check"}}},
	{"deployment failed: tasks failed to start", "The deployment was given up: too many of its tasks failed.", []Cure{{Text: "See why its tasks ended, mend that and deploy again.", Do: "tasks"}}},
	{"deployment failed: stopped by the user", "Somebody stopped the deployment.", []Cure{{Text: "Deploy again, or go back to an earlier revision.", Do: "revision"}}},
	{"due to an unhealthy status", "Unhealthy tasks were replaced.", []Cure{{Text: "See why their health checks failed.", Do: "tasks"}}},
}

// ExplainEvent explains a service's event that tells of trouble; false: it tells of none.
func ExplainEvent(text string, cpu, memory int64) (Finding, bool) {
	if strings.Contains(text, "was unable to place a task") {
		if code := refusalOf(text); code != "" {
			return Refusal(code, cpu, memory), true
		}
		_, reason, _ := strings.Cut(text, "Reason: ")
		reason, _, _ = strings.Cut(reason, " For more information")
		return Finding{Name: "Unplaced", Level: Bad, Cause: "No machine takes its tasks: " + clause(reason) + ".", Cures: room}, true
	}
	for _, e := range events {
		if strings.Contains(text, e.has) {
			return Finding{Name: "Event", Level: Bad, Cause: e.cause, Cures: e.cures}, true
		}
	}
	return Finding{}, false
}

// Problem explains why a listener's port is not served.
func Problem(text string) Finding {
	f := Finding{Name: "ListenerNotServed", Level: Bad, Cause: "A listener is not served: " + clause(text) + ".",
		Cures: []Cure{{Text: "Free the port, or give the listener another.", Do: "balancers"}}}
	if has(text, "certificate") {
		f.Cures = []Cure{{Text: "Give the listener a certificate that is valid.", Do: "balancers"}}
	}
	return f
}

// ExplainNode explains a node that is not as it should be; false: it lives.
func ExplainNode(n *model.Node) (Finding, bool) {
	if n.Life.Verdict == model.NodeAlive && n.Connected {
		return Finding{}, false
	}
	name := n.Hostname
	f := Finding{Since: n.Life.Since}
	switch n.Life.Verdict {
	case model.NodeLost:
		f.Name, f.Level, f.Cause = "NodeLost", Bad, "Node "+name+" is lost"
		f.Cures = []Cure{{Text: "Bring the machine back, or remove it for good.", Do: "nodes", Command: "berth node ls"}}
	case model.NodeAway:
		f.Name, f.Level, f.Cause = "NodeAway", Warning, "The agent of node "+name+" is away; its tasks run"
		f.Cures = []Cure{{Text: "Start Berth on that machine again.", Do: "nodes", Command: "berth up"}}
	case model.NodeImpaired:
		f.Name, f.Level, f.Cause = "NodeImpaired", Warning, "Node "+name+" takes no more tasks"
		f.Cures = []Cure{{Text: "See what is wrong with the machine.", Do: "nodes", Command: "berth doctor"}}
	default:
		f.Name, f.Level, f.Cause, f.Since = "NodeDisconnected", Warning, "The session of node "+name+" is closed; its tasks run", n.LostAt
		f.Cures = []Cure{{Text: "Start Berth on that machine again.", Do: "nodes", Command: "berth up"}}
	}
	if n.Life.Reason != "" {
		f.Cause += ": " + clause(n.Life.Reason)
	}
	f.Cause += "."
	return f, true
}
