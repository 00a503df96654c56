package store

import "github.com/berthdev/berth/internal/model"

// The tables of Application Auto Scaling. Keys of what belongs to a target begin with its resource id and a slash.
var (
	ScalableTargets   = table[model.ScalableTarget]("scaling-targets")
	ScalingPolicies   = table[model.ScalingPolicy]("scaling-policies")
	ScalingActions    = table[model.ScalingAction]("scaling-actions")
	ScalingActivities = table[model.ScalingActivity]("scaling-activities")
)

func scalingKinds() []Kind {
	return []Kind{ScalableTargets.kind(), ScalingPolicies.kind(), ScalingActions.kind(), ScalingActivities.kind()}
}

// DropScaling forgets a scalable target with its policies, their alarms and its scheduled actions; its activities stay.
func DropScaling(tx Tx, resource string) {
	var policies []*model.ScalingPolicy
	for p := range ScalingPolicies.Scan(tx, resource+"/") {
		policies = append(policies, p)
	}
	for _, p := range policies {
		DropScalingPolicy(tx, p)
	}
	var actions []string
	for a := range ScalingActions.Scan(tx, resource+"/") {
		actions = append(actions, a.Key())
	}
	for _, k := range actions {
		ScalingActions.Delete(tx, k)
	}
	ScalableTargets.Delete(tx, resource)
}

// DropScalingPolicy forgets a policy and the alarms that were made for it.
func DropScalingPolicy(tx Tx, p *model.ScalingPolicy) {
	DropScalingAlarms(tx, p)
	ScalingPolicies.Delete(tx, p.Key())
}

// DropScalingAlarms deletes the alarms that were made for a policy, with their history.
func DropScalingAlarms(tx Tx, p *model.ScalingPolicy) {
	for _, name := range []string{p.High, p.Low} {
		if a, ok := Alarms.Get(tx, name); !ok || a.Policy != p.ARN {
			continue
		}
		var old []string
		for e := range AlarmEvents.Scan(tx, model.AlarmEventPrefix(name)) {
			old = append(old, e.Key())
		}
		for _, k := range old {
			AlarmEvents.Delete(tx, k)
		}
		Alarms.Delete(tx, name)
	}
}
