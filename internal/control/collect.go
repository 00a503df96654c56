package control

import (
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// keepDeployments is how many ended deployments of a service are kept.
const keepDeployments = 100

// collect removes, once a minute, what nobody will ask for any more.
func (p *pass) collect() {
	if p.now.Sub(p.collected) < time.Minute {
		return
	}
	p.collected = p.now
	p.collectTasks()
	p.collectServices()
	p.collectDefinitions()
	for _, i := range slices.Collect(store.Idempotencies.Scan(p.tx, "")) {
		if !i.ExpiresAt.IsZero() && i.ExpiresAt.Before(p.now) { // without a time it lasts as long as what it made
			store.Idempotencies.Delete(p.tx, i.Key())
		}
	}
}

// collectTasks removes tasks that ended long ago, and the oldest of too many. One whose end was not counted for its deployment yet
// is kept until it is.
func (p *pass) collectTasks() {
	ended := slices.SortedFunc(store.Tasks.By(p.tx, store.ByState, store.TaskEnded), func(a, b *model.Task) int {
		return a.Observed.StoppedAt.Compare(b.Observed.StoppedAt)
	})
	for i, t := range ended {
		tooMany := len(ended)-i > p.KeepNewest
		if !tooMany && p.now.Sub(t.Observed.StoppedAt) < p.KeepEnded {
			break
		}
		if t.Service == "" || t.Accounted || p.now.Sub(t.Observed.StoppedAt) > p.KeepEnded {
			store.Tasks.Delete(p.tx, t.Key())
		}
	}
}

// collectServices forgets services that have been INACTIVE for as long as their tasks are kept, and old deployments of all.
func (p *pass) collectServices() {
	for _, s := range slices.Collect(store.Services.Scan(p.tx, "")) {
		all := slices.Collect(store.Deployments.Scan(p.tx, s.Key()+"/"))
		slices.SortFunc(all, func(a, b *model.Deployment) int { return b.CreatedAt.Compare(a.CreatedAt) })
		drop := all[min(len(all), keepDeployments):]
		gone := s.Status == "INACTIVE" && len(slices.Collect(store.Tasks.By(p.tx, store.ByService, s.Key()))) == 0 &&
			(len(all) == 0 || p.now.Sub(all[0].UpdatedAt) > p.KeepEnded)
		if gone {
			drop = all
			store.Services.Delete(p.tx, s.Key())
			made := &model.Idempotency{Operation: "CreateService", Cluster: s.Cluster, Token: s.Name}
			store.Idempotencies.Delete(p.tx, made.Key())
		}
		used := map[string]bool{s.RevisionID: !gone}
		for _, d := range all[:len(all)-len(drop)] {
			used[d.RevisionID] = true
			for _, r := range d.SourceRevisionIDs {
				used[r] = true
			}
		}
		for _, d := range drop {
			if gone || !d.Live() {
				store.Deployments.Delete(p.tx, d.Key())
			} else {
				used[d.RevisionID] = true
			}
		}
		for _, r := range slices.Collect(store.ServiceRevisions.Scan(p.tx, s.Key()+"/")) {
			if !used[r.ID] {
				store.ServiceRevisions.Delete(p.tx, r.Key())
			}
		}
	}
}

// collectDefinitions removes deleted task definitions that no task and no service uses.
func (p *pass) collectDefinitions() {
	var deleted []*model.TaskDefinition
	for d := range store.TaskDefinitions.Scan(p.tx, "") {
		if d.Definition.Status == types.TaskDefinitionStatusDeleteInProgress {
			deleted = append(deleted, d)
		}
	}
	if len(deleted) == 0 {
		return
	}
	used := map[string]bool{}
	for t := range store.Tasks.Scan(p.tx, "") {
		if !t.Ended() {
			used[t.TaskDefinition] = true
		}
	}
	for r := range store.ServiceRevisions.Scan(p.tx, "") {
		if s, ok := store.Services.Get(p.tx, r.Cluster+"/"+r.Service); ok && s.Status != "INACTIVE" {
			used[r.TaskDefinition] = true
		}
	}
	for _, d := range deleted {
		if !used[p.Scope.TaskDefinitionARN(d.Family, d.Revision)] {
			store.TaskDefinitions.Delete(p.tx, d.Key())
			p.say("deleted task definition", "definition", d.Family+":"+strconv.Itoa(d.Revision))
		}
	}
}
