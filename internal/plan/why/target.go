package why

import (
	"fmt"
	"time"

	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// Target is what is known of a target.
type Target struct {
	Group       string // the target group's name
	ID          string
	Port        int32
	CheckPort   string // "traffic-port" or a number
	CheckPath   string
	Listens     []int32 // ports that the task's containers declare, when known
	State       elbtypes.TargetHealthStateEnum
	Reason      elbtypes.TargetHealthReasonEnum
	Description string
	Since       time.Time
}

// targetReasons explain what the proxy says of a target, by reason.
var targetReasons = map[elbtypes.TargetHealthReasonEnum]func(t *Target) Finding{
	elbtypes.TargetHealthReasonEnumTimeout: func(t *Target) Finding {
		return Finding{Level: Bad, Cause: fmt.Sprintf("%s times out on :%d%s.", t.ID, t.Port, t.CheckPath), Cures: append(t.wrongPort(),
			Cure{Text: "The program must listen on 0.0.0.0, not on 127.0.0.1, and answer within the check's timeout.", Do: "port"})}
	},
	elbtypes.TargetHealthReasonEnumFailedHealthChecks: func(t *Target) Finding {
		f := Finding{Level: Bad, Cause: fmt.Sprintf("%s refuses the health check on :%d%s.", t.ID, t.Port, t.CheckPath), Cures: append(t.wrongPort(),
			Cure{Text: "Have the program listen on 0.0.0.0 and that port, or correct the target group's port.", Do: "port"})}
		if has(t.Description, ": ") {
			f.Cause = fmt.Sprintf("%s fails its health check on :%d: %s.", t.ID, t.Port, clause(t.Description))
		}
		return f
	},
	elbtypes.TargetHealthReasonEnumResponseCodeMismatch: func(t *Target) Finding {
		return Finding{Level: Bad, Cause: fmt.Sprintf("%s answers the health check of %s otherwise than wanted: %s.", t.ID, or(t.CheckPath, "/"), clause(t.Description)),
			Cures: []Cure{{Text: "Correct the health check's path, or the codes that count as healthy (matcher).", Do: "check"}}}
	},
	elbtypes.TargetHealthReasonEnumInitialHealthChecking: func(t *Target) Finding {
		return Finding{Level: Going, Cause: t.ID + " is checked before it takes requests."}
	},
	elbtypes.TargetHealthReasonEnumRegistrationInProgress: func(t *Target) Finding {
		return Finding{Level: Going, Cause: t.ID + " is being registered."}
	},
	elbtypes.TargetHealthReasonEnumDeregistrationInProgress: func(t *Target) Finding {
		return Finding{Level: Going, Cause: t.ID + " is drained: it finishes its requests and takes no more."}
	},
	elbtypes.TargetHealthReasonEnumNotInUse: func(t *Target) Finding {
		return Finding{Level: Warning, Cause: "No listener sends anything to target group " + t.Group + ".",
			Cures: []Cure{{Text: "Forward to it from a listener or a rule.", Do: "balancers"}}}
	},
	elbtypes.TargetHealthReasonEnumNotRegistered: func(t *Target) Finding {
		return Finding{Level: Warning, Cause: t.ID + " is not registered in target group " + t.Group + ".", Cures: []Cure{{Text: "Register it.", Command: "aws elbv2 register-targets"}}}
	},
}

// ExplainTarget explains a target that is not healthy; false: it is.
func ExplainTarget(t Target) (Finding, bool) {
	explain := targetReasons[t.Reason]
	if explain == nil {
		if t.State == elbtypes.TargetHealthStateEnumUnhealthy {
			return Finding{Name: "Target.Unhealthy", Level: Bad, Cause: t.ID + " is unhealthy in " + t.Group + ": " + clause(or(t.Description, "its checks fail")) + ".",
				Cures: []Cure{{Text: "Check the path and port of the health check.", Do: "check"}}, Since: t.Since}, true
		}
		return Finding{}, false
	}
	f := explain(&t)
	f.Name, f.Since = string(t.Reason), t.Since
	return f, true
}

// wrongPort is the cure when the containers declare other ports than the one that is asked.
func (t *Target) wrongPort() []Cure {
	for _, p := range t.Listens {
		if p == t.Port {
			return nil
		}
	}
	if len(t.Listens) == 0 {
		return nil
	}
	return []Cure{{Text: fmt.Sprintf("The container declares port %d, and port %d is asked: correct containerPort.", t.Listens[0], t.Port), Do: "port", Value: fmt.Sprint(t.Listens[0])}}
}
