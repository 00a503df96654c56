package feed

import (
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// views tells whether each machine's view is stored, which all servers must know.
func views(r store.Reader) bool {
	row, ok := store.ClusterSettings.Get(r, model.SettingsKey)
	return ok && row.Level >= model.LevelViews
}

// together is the health of a target from what the machines that serve its load balancers see of it, in the order of their ids: old is what
// it was, nil when nothing was. It becomes healthy when one sees it so and none is still finding out, so that a deployment goes on only when
// all send it requests; it stays healthy as long as one sees it so, as a machine that lost its way to a target says nothing of the target.
// It is drained when it is for all. away are views of machines whose agents have just gone, as all do when a server is started anew: they keep
// a target healthy, and hold up nothing.
func together(old *model.TargetHealth, views, away []*model.TargetView) (h model.TargetHealth) {
	pick := func(state types.TargetHealthStateEnum) *model.TargetView {
		i := slices.IndexFunc(views, func(v *model.TargetView) bool { return v.State == state })
		if i < 0 {
			return nil
		}
		return views[i]
	}
	healthy, initial := pick(types.TargetHealthStateEnumHealthy), pick(types.TargetHealthStateEnumInitial)
	was := old != nil && old.State == types.TargetHealthStateEnumHealthy
	if i := slices.IndexFunc(away, func(v *model.TargetView) bool { return v.State == types.TargetHealthStateEnumHealthy }); healthy == nil && was && i >= 0 {
		healthy = away[i]
	}
	switch {
	case len(views) == 0:
		return h
	case pick(types.TargetHealthStateEnumDraining) != nil:
		h = pick(types.TargetHealthStateEnumDraining).TargetHealth
	case healthy != nil && (was || initial == nil):
		h = healthy.TargetHealth
	case initial != nil && !was:
		h = initial.TargetHealth
	case pick(types.TargetHealthStateEnumUnhealthy) != nil:
		h = pick(types.TargetHealthStateEnumUnhealthy).TargetHealth
	case initial != nil: // who knew it as healthy is gone
		return *old
	default:
		h = views[0].TargetHealth
	}
	h.Drained = !slices.ContainsFunc(views, func(v *model.TargetView) bool { return !v.Drained })
	return h
}

// counts tells whether a machine's view counts: that of a machine which nobody can reach is old. Its agent may have just gone.
func counts(r store.Reader, viewer string, now time.Time) (counts, away bool) {
	if n, ok := store.Nodes.Get(r, viewer); ok {
		return n.Agent(), !n.Agent() && !n.Lost() && now.Sub(n.LostAt) < timeouts.LostGrace
	}
	return known(r, viewer), false
}

// known tells whether the machine is of the cluster still.
func known(r store.Reader, viewer string) bool {
	_, node := store.Nodes.Get(r, viewer)
	_, server := store.Servers.Get(r, viewer)
	return node || server
}

// viewsOf are those of a target that count; those of machines that are gone, and all when the target is, are deleted.
func viewsOf(tx store.Tx, key string) (all, away []*model.TargetView) {
	_, target := store.Targets.Get(tx, key)
	for _, v := range slices.Collect(store.TargetViews.Scan(tx, key+"|")) {
		if !target || !known(tx, v.Viewer) {
			store.TargetViews.Delete(tx, v.Key())
			continue
		}
		if yes, gone := counts(tx, v.Viewer, time.Now()); yes {
			all = append(all, v)
		} else if gone {
			away = append(away, v)
		}
	}
	return all, away
}

// judge stores what is seen of a target by all.
func judge(tx store.Tx, key string) {
	seen, away := viewsOf(tx, key)
	if len(seen) == 0 {
		if _, target := store.Targets.Get(tx, key); !target {
			store.TargetHealths.Delete(tx, key)
		}
		return // what was seen last stands
	}
	old, known := store.TargetHealths.Get(tx, key)
	if !known {
		old = nil
	}
	writeHealth(tx, key, together(old, seen, away))
}

// view stores what a machine sees of a target.
func view(tx store.Tx, viewer, key string, h model.TargetHealth) {
	if _, target := store.Targets.Get(tx, key); target {
		v := &model.TargetView{TargetHealth: h, Viewer: viewer}
		if old, ok := store.TargetViews.Get(tx, v.Key()); !ok || !same(old.TargetHealth, h) {
			store.TargetViews.Put(tx, v)
		}
	}
	judge(tx, key)
}

// note stores why a machine does not serve a listener's port, "" when it does.
func note(tx store.Tx, viewer, arn, problem string) {
	old, ok := store.Listeners.Get(tx, arn)
	if !ok || old.Problems[viewer] == problem && (problem != "" || old.Problem == "" || len(old.Problems) > 0) {
		return
	}
	l := *old
	l.Problems = map[string]string{}
	for id, text := range old.Problems {
		if id != viewer && known(tx, id) {
			l.Problems[id] = text
		}
	}
	if problem != "" {
		l.Problems[viewer] = problem
	}
	l.Problem = say(tx, l.Problems)
	store.Listeners.Put(tx, &l)
}

// say puts the machines' problems into one sentence.
func say(r store.Reader, problems map[string]string) string {
	var all []string
	for id, text := range problems {
		name := id[:min(4, len(id))]
		if n, ok := store.Nodes.Get(r, id); ok {
			name = n.Hostname
		} else if s, ok := store.Servers.Get(r, id); ok {
			name = s.Name
		}
		all = append(all, name+": "+text)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}
