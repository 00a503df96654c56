package control

import (
	"container/heap"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// keepDeployments is how many ended deployments of a service are kept.
const keepDeployments = 100

// garbage is what will have to go: ended tasks and tokens, each with the time that decides when.
type garbage struct {
	mu      sync.Mutex
	tasks   expiries        // by when they ended
	tokens  expiries        // by when they expire
	known   map[string]bool // the ids in tasks
	going   going
	cleared time.Time // when it was collected last
}

type expiry struct {
	at  time.Time
	key string
}

// load makes the garbage anew from what is stored.
func (g *garbage) load(r store.Reader) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tasks, g.tokens, g.known = nil, nil, map[string]bool{}
	for t := range store.Tasks.By(r, store.ByState, store.TaskEnded) {
		g.known[t.ID] = true
		g.tasks = append(g.tasks, expiry{t.Observed.StoppedAt, t.ID})
	}
	for i := range store.Idempotencies.Scan(r, "") {
		if !i.ExpiresAt.IsZero() { // without a time it lasts as long as what it made
			g.tokens = append(g.tokens, expiry{i.ExpiresAt, i.Key()})
		}
	}
	heap.Init(&g.tasks)
	heap.Init(&g.tokens)
}

func (g *garbage) ended(t *model.Task) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.known[t.ID] {
		g.known[t.ID] = true
		heap.Push(&g.tasks, expiry{t.Observed.StoppedAt, t.ID})
	}
}

func (g *garbage) token(i *model.Idempotency) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !i.ExpiresAt.IsZero() {
		heap.Push(&g.tokens, expiry{i.ExpiresAt, i.Key()})
	}
}

// due is when the next of it goes; zero when there is none.
func (g *garbage) due(c *Control, now time.Time) (at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	earlier := func(t time.Time) {
		if t = later(t, g.cleared.Add(timeouts.ControlCollect)); at.IsZero() || t.Before(at) {
			at = t
		}
	}
	switch {
	case len(g.tasks) > c.KeepNewest:
		earlier(now)
	case len(g.tasks) > 0:
		earlier(g.tasks[0].at.Add(c.KeepEnded))
	}
	if len(g.tokens) > 0 {
		earlier(g.tokens[0].at)
	}
	return at
}

// batch is what goes next: what it was until it is gone, then the next that is due.
func (g *garbage) batch(c *Control, now time.Time) *going {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.going.empty() {
		return &g.going
	}
	for len(g.going.tasks) < maxRows/2 {
		if n := len(g.tasks); n <= c.KeepNewest && (n == 0 || now.Before(g.tasks[0].at.Add(c.KeepEnded))) {
			break
		}
		key := heap.Pop(&g.tasks).(expiry).key
		delete(g.known, key)
		g.going.tasks = append(g.going.tasks, key)
	}
	for len(g.going.tokens) < maxRows/2 && len(g.tokens) > 0 && g.tokens[0].at.Before(now) {
		g.going.tokens = append(g.going.tokens, heap.Pop(&g.tokens).(expiry).key)
	}
	return &g.going
}

// gone notes that nothing of the batch is left to remove.
func (g *garbage) gone() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.going = going{}
}

// going is garbage that is being removed. Only the look at the garbage touches it.
type going struct{ tasks, tokens []string }

func (g *going) empty() bool { return len(g.tasks)+len(g.tokens) == 0 }

// collect removes ended tasks and tokens that nobody will ask for any more, at most once a minute. A task whose end was not counted
// for its deployment yet is kept until it is: that change, or the repair, finds it again.
func (p *pass) collect() {
	g := &p.garbage
	if at := g.due(p.Control, p.now); g.going.empty() && (at.IsZero() || p.now.Before(at)) {
		p.look(at)
		return
	}
	for {
		batch := g.batch(p.Control, p.now)
		if batch.empty() {
			break
		}
		for _, id := range batch.tasks {
			t, ok := store.Tasks.Get(p.tx, id)
			if ok && (t.Service == "" || t.Accounted || p.now.Sub(t.Observed.StoppedAt) >= p.KeepEnded) {
				store.Tasks.Delete(p.tx, id)
			}
		}
		for _, key := range batch.tokens {
			if i, ok := store.Idempotencies.Get(p.tx, key); ok && i.ExpiresAt.Before(p.now) {
				store.Idempotencies.Delete(p.tx, key)
			}
		}
		if p.tx.wrote {
			return // the next look finds them gone
		}
		g.gone()
	}
	g.cleared = p.now
	p.look(g.due(p.Control, p.now))
}

// trim forgets old deployments of a service, and their revisions.
func (p *pass) trim(v *scene) {
	if len(v.deployments) <= keepDeployments {
		return
	}
	used := map[string]bool{v.RevisionID: true}
	var drop []*model.Deployment
	for k, d := range v.deployments {
		if k >= keepDeployments && !d.Live() {
			drop = append(drop, d)
			continue
		}
		used[d.RevisionID] = true
		for _, r := range d.SourceRevisionIDs {
			used[r] = true
		}
	}
	p.drop(drop)
	if len(drop) == 0 {
		return
	}
	for _, r := range slices.Collect(store.ServiceRevisions.Scan(p.tx, v.Key()+"/")) {
		if !used[r.ID] && !p.full() {
			store.ServiceRevisions.Delete(p.tx, r.Key())
		}
	}
}

func (p *pass) drop(deployments []*model.Deployment) {
	for _, d := range deployments {
		if !p.full() {
			store.Deployments.Delete(p.tx, d.Key())
		}
	}
}

// forget removes a service that has been INACTIVE for as long as its tasks are kept, with all that is told of it.
func (p *pass) forget(v *scene) {
	for range store.Tasks.By(p.tx, store.ByService, v.Key()) {
		return // looked at again when they go
	}
	if len(v.deployments) > 0 && v.RevisionID != "" {
		if at := v.deployments[0].UpdatedAt.Add(p.KeepEnded); !p.now.After(at) {
			p.look(at.Add(1))
			return
		}
	}
	p.drop(v.deployments)
	for _, r := range slices.Collect(store.ServiceRevisions.Scan(p.tx, v.Key()+"/")) {
		if !p.full() {
			store.ServiceRevisions.Delete(p.tx, r.Key())
		}
	}
	for _, e := range slices.Collect(store.ServiceEvents.Scan(p.tx, v.Key()+"/")) {
		if !p.full() {
			store.ServiceEvents.Delete(p.tx, e.Key())
		}
	}
	if _, ok := store.Services.Get(p.tx, v.Key()); ok && !p.full() {
		store.Services.Delete(p.tx, v.Key())
		made := &model.Idempotency{Operation: "CreateService", Cluster: v.Cluster, Token: v.Name}
		store.Idempotencies.Delete(p.tx, made.Key())
	}
}

// definitions removes deleted task definitions that no task and no service uses. While some are used it looks again each minute.
func (p *pass) definitions() {
	p.mu.Lock()
	p.swept = p.now
	p.mu.Unlock()
	var deleted []*model.TaskDefinition
	for d := range store.TaskDefinitions.Scan(p.tx, "") {
		if deleting(d) {
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
		if s, ok := store.Services.Get(p.tx, r.Cluster+"/"+r.Service); ok && s.Status != inactive {
			used[r.TaskDefinition] = true
		}
	}
	for _, d := range deleted {
		if !used[p.Scope.TaskDefinitionARN(d.Family, d.Revision)] && !p.full() {
			store.TaskDefinitions.Delete(p.tx, d.Key())
			p.say("deleted task definition", "definition", d.Family+":"+strconv.Itoa(d.Revision))
		}
	}
	p.look(p.now.Add(timeouts.ControlCollect))
}

// expiries is a heap.
type expiries []expiry

func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e expiries) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }

// Push implements heap.Interface.
func (e *expiries) Push(x any) { *e = append(*e, x.(expiry)) }

// Pop implements heap.Interface.
func (e *expiries) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}
