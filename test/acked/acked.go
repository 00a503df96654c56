// Package acked writes to a Berth from several clients at once, over several servers, and judges afterwards whether what it was told
// can be true: tags are registers that must be linearizable, clusters are a set that only grows, and a RunTask that is repeated under
// its client token runs one task. A call whose outcome is unknown may have happened at any time after it began, or not at all.
package acked

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	smithy "github.com/aws/smithy-go"
)

// Config is what a History is told.
type Config struct {
	// Clients are those of the servers; each has a writer of its own. They must not repeat calls themselves.
	Clients []*ecs.Client
	Cluster string // ARN of the cluster whose tags are the registers
	Task    string // definition of the tasks to run, which end by themselves; "" runs none
	Network *types.NetworkConfiguration
	Keys    int           // how many registers
	Limit   time.Duration // of one call
	Pause   time.Duration // of a writer between two calls
}

// History is what was asked and answered.
type History struct {
	c     Config
	began time.Time

	mu       sync.Mutex
	ops      []porcupine.Operation
	created  map[string]created
	lists    []listed
	tokens   map[string]bool // acknowledged or not, by client token
	refused  int
	answered int
	worst    time.Duration // between two acknowledged writes of anybody
	last     time.Time     // acknowledged write
}

type created struct {
	began, acked time.Duration // acked is 0 when the outcome is unknown
}

type listed struct {
	began, ended time.Duration
	names        []string
}

// input is an operation on a register.
type input struct {
	key   string
	write bool
	value string
}

// unknown is the end of a call that may still happen.
const unknown = int64(1) << 62

// Start begins to write. Stop it before judging.
func Start(c Config) (h *History, stop func()) {
	h = &History{c: c, began: time.Now(), created: map[string]created{}, tokens: map[string]bool{}, last: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i, client := range c.Clients {
		w := &writer{h: h, id: i, client: client, random: rand.New(rand.NewPCG(uint64(i), 7))}
		wg.Go(func() { w.run(ctx) })
	}
	return h, func() { cancel(); wg.Wait() }
}

func (h *History) now() time.Duration { return time.Since(h.began) }

// writer is one client.
type writer struct {
	h      *History
	id, n  int
	client *ecs.Client
	random *rand.Rand
	open   []string // client tokens whose outcome is unknown
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.n++
		switch k := w.random.IntN(10); {
		case k < 4:
			w.write()
		case k < 7:
			w.read()
		case k < 8:
			w.create()
		case k < 9:
			w.list()
		case w.h.c.Task != "":
			w.runTask()
		}
		select {
		case <-ctx.Done():
		case <-time.After(w.h.c.Pause):
		}
	}
}

// call makes a call within the limit, which goes on when the writers are stopped. sure says that a refusal changed nothing.
func (w *writer) call(f func(ctx context.Context) error) (began, ended time.Duration, err error, sure bool) {
	ctx, cancel := context.WithTimeout(context.Background(), w.h.c.Limit)
	defer cancel()
	began = w.h.now()
	err = f(ctx)
	ended = w.h.now()
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	if err != nil {
		w.h.refused++
		api, ok := errors.AsType[smithy.APIError](err)
		dial, unsent := errors.AsType[*net.OpError](err)
		return began, ended, err, ok && api.ErrorFault() == smithy.FaultClient || unsent && dial.Op == "dial"
	}
	w.h.answered++
	return began, ended, nil, false
}

// acknowledged notes how long nobody's write was taken. h.mu is held.
func (h *History) acknowledged() {
	now := time.Now()
	h.worst = max(h.worst, now.Sub(h.last))
	h.last = now
}

func (w *writer) write() {
	key, value := fmt.Sprint("r", w.random.IntN(w.h.c.Keys)), fmt.Sprintf("%d.%d", w.id, w.n)
	began, ended, err, sure := w.call(func(ctx context.Context) error {
		_, err := w.client.TagResource(ctx, &ecs.TagResourceInput{ResourceArn: &w.h.c.Cluster, Tags: []types.Tag{{Key: &key, Value: &value}}})
		return err
	})
	if err != nil && sure {
		return
	}
	op := porcupine.Operation{ClientId: w.id, Input: input{key, true, value}, Call: int64(began), Return: int64(ended)}
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	if err != nil {
		op.Return = unknown
	} else {
		w.h.acknowledged()
	}
	w.h.ops = append(w.h.ops, op)
}

func (w *writer) read() {
	values := map[string]string{}
	began, ended, err, _ := w.call(func(ctx context.Context) error {
		out, err := w.client.ListTagsForResource(ctx, &ecs.ListTagsForResourceInput{ResourceArn: &w.h.c.Cluster})
		if err == nil {
			for _, t := range out.Tags {
				values[aws.ToString(t.Key)] = aws.ToString(t.Value)
			}
		}
		return err
	})
	if err != nil {
		return
	}
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	for k := range w.h.c.Keys {
		key := fmt.Sprint("r", k)
		w.h.ops = append(w.h.ops, porcupine.Operation{ClientId: w.id, Input: input{key: key}, Output: values[key], Call: int64(began), Return: int64(ended)})
	}
}

func (w *writer) create() {
	name := fmt.Sprintf("acked-%d-%d", w.id, w.n)
	w.h.mu.Lock()
	w.h.created[name] = created{began: w.h.now()}
	w.h.mu.Unlock()
	began, ended, err, sure := w.call(func(ctx context.Context) error {
		_, err := w.client.CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: &name})
		return err
	})
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	switch {
	case err == nil:
		w.h.created[name] = created{began, ended}
		w.h.acknowledged()
	case sure:
		delete(w.h.created, name)
	}
}

func (w *writer) list() {
	var names []string
	began, ended, err, _ := w.call(func(ctx context.Context) error {
		pages := ecs.NewListClustersPaginator(w.client, nil)
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, arn := range page.ClusterArns {
				names = append(names, tail(arn))
			}
		}
		return nil
	})
	if err != nil {
		return
	}
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	w.h.lists = append(w.h.lists, listed{began, ended, names})
}

func tail(arn string) string {
	for i := len(arn) - 1; i >= 0; i-- {
		if arn[i] == '/' {
			return arn[i+1:]
		}
	}
	return arn
}

// runTask runs a task under a new token, or again under one whose outcome is unknown.
func (w *writer) runTask() {
	token := fmt.Sprintf("token-%d-%d", w.id, w.n)
	if len(w.open) > 0 {
		token = w.open[0]
	}
	failures := 0
	_, _, err, sure := w.call(func(ctx context.Context) error {
		out, err := w.client.RunTask(ctx, &ecs.RunTaskInput{TaskDefinition: &w.h.c.Task, ClientToken: &token, StartedBy: &token,
			NetworkConfiguration: w.h.c.Network})
		if err == nil {
			failures = len(out.Failures)
		}
		return err
	})
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	again := len(w.open) > 0 && w.open[0] == token
	switch {
	case err == nil && failures > 0: // no room: nothing was run, and the token may be used again
		if again {
			w.open = w.open[1:]
		}
	case err == nil:
		w.h.tokens[token] = true
		w.h.acknowledged()
		if again {
			w.open = w.open[1:]
		}
	case !sure && !again:
		w.h.tokens[token] = false
		w.open = append(w.open, token)
	}
}

// Counts says how much was asked, for people.
func (h *History) Counts() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%d calls answered, %d refused or unknown; %d clusters, %d tokens; at most %v between two acknowledged writes",
		h.answered, h.refused, len(h.created), len(h.tokens), h.worst.Round(time.Millisecond))
}

// Judge says what of the history cannot be, after Stop. client reads the state as it is now, and must reach it.
func (h *History) Judge(ctx context.Context, client *ecs.Client) error {
	w := &writer{h: h, id: len(h.c.Clients), client: client}
	w.read()
	w.list()
	errs := []error{h.registers(), h.sets()}
	if h.c.Task != "" {
		errs = append(errs, h.once(ctx, client))
	}
	return errors.Join(errs...)
}

var model = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, op := range all {
			parts[op.Input.(input).key] = append(parts[op.Input.(input).key], op)
		}
		var out [][]porcupine.Operation
		for _, p := range parts {
			out = append(out, p)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		if op := in.(input); op.write {
			return true, op.value
		}
		return out == state, state
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprint(in, " -> ", out) },
}

// judgeLimit is how long porcupine may search; histories of this size take milliseconds.
const judgeLimit = time.Minute

func (h *History) registers() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = seen(h.ops)
	switch porcupine.CheckOperationsTimeout(model, h.ops, judgeLimit) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("the registers' history of %d calls is too long to judge", len(h.ops))
	}
	for _, part := range model.Partition(h.ops) {
		if porcupine.CheckOperationsTimeout(model, part, judgeLimit) == porcupine.Illegal {
			return fmt.Errorf("register %s is not linearizable: %s", part[0].Input.(input).key, describe(part))
		}
	}
	return errors.New("the registers are not linearizable")
}

// seen leaves out writes of unknown outcome that nobody read: they may have happened after everything else, or not at all, and cost the
// search most.
func seen(ops []porcupine.Operation) []porcupine.Operation {
	read := map[any]bool{}
	for _, op := range ops {
		if in := op.Input.(input); !in.write {
			read[input{in.key, true, op.Output.(string)}] = true
		}
	}
	return slices.DeleteFunc(ops, func(op porcupine.Operation) bool {
		in := op.Input.(input)
		return in.write && op.Return == unknown && !read[in]
	})
}

// describe shows the end of a history, where what is wrong usually is.
func describe(ops []porcupine.Operation) (s string) {
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, op := range ops[max(0, len(ops)-60):] {
		end := time.Duration(op.Return).Round(time.Millisecond).String()
		if op.Return == unknown {
			end = "?"
		}
		s += fmt.Sprintf("\n  client %d  %v .. %s  ", op.ClientId, time.Duration(op.Call).Round(time.Millisecond), end)
		if in := op.Input.(input); in.write {
			s += "writes " + in.value
		} else {
			s += fmt.Sprintf("reads %q", op.Output)
		}
	}
	return s
}

// sets checks that each list has all that was acknowledged before it began, and nothing that nobody had asked for when it ended.
func (h *History) sets() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.lists {
		for name, c := range h.created {
			has := slices.Contains(l.names, name)
			if c.acked > 0 && c.acked < l.began && !has {
				return fmt.Errorf("cluster %s was acknowledged at %v and is missing in a list of %v", name, c.acked, l.began)
			}
			if has && c.began > l.ended {
				return fmt.Errorf("cluster %s was asked for at %v and is in a list of %v", name, c.began, l.ended)
			}
		}
	}
	return nil
}

// once checks that each token runs one task if it was acknowledged, and at most one if not.
func (h *History) once(ctx context.Context, client *ecs.Client) error {
	count, seen := map[string]int{}, map[string]bool{} // one that ends meanwhile is in both lists
	for _, status := range []types.DesiredStatus{types.DesiredStatusRunning, types.DesiredStatusStopped} {
		pages := ecs.NewListTasksPaginator(client, &ecs.ListTasksInput{Cluster: &h.c.Cluster, DesiredStatus: status})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			if len(page.TaskArns) == 0 {
				continue
			}
			out, err := client.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &h.c.Cluster, Tasks: page.TaskArns})
			if err != nil {
				return err
			}
			for _, t := range out.Tasks {
				if arn := aws.ToString(t.TaskArn); !seen[arn] {
					seen[arn] = true
					count[aws.ToString(t.StartedBy)]++
				}
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for token, acked := range h.tokens {
		if n := count[token]; n > 1 || acked && n == 0 {
			return fmt.Errorf("%s runs %d tasks; acknowledged: %v", token, n, acked)
		}
	}
	return nil
}
