// Package sim runs a whole cluster inside one goroutine's patience: the real ECS API behind the real wire protocol, the real store
// in memory, the real control loop and the real node sessions, with nodes that only pretend to run containers and a clock that
// the caller turns. Scripts in testdata drive it; each prints what happened, so that a change of behaviour is a change of a golden
// file.
//
// It is meant for a testing/synctest bubble: everything takes the bubble's time, and between two steps nothing moves. The same
// script gives the same output.
package sim

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/api/ecs"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/control"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/places"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// Cluster is a simulated Berth: one server and its nodes.
type Cluster struct {
	ctx   context.Context
	wait  func()
	begin time.Time
	scope model.Scope
	pace  model.Pace

	store   store.Store
	places  *places.Keeper
	client  *sdk.Client
	control *control.Control
	server  *nodelink.Server
	serving context.Context    // of the server's sessions
	hangUp  context.CancelFunc // ends serving

	nodes []*node
	ids   int
	names names
	told  map[string]string // by service: the id of the newest event that was printed
	seen  map[string]seen
}

// New starts a server without nodes. wait returns once everything that can happen without time passing has happened:
// synctest.Wait.
func New(ctx context.Context, wait func(), pace model.Pace) (*Cluster, error) {
	c := &Cluster{
		ctx: ctx, wait: wait, begin: time.Now(), scope: model.Scope{Account: "000000000000", Region: "us-east-1"}, pace: pace,
		store: mem.New(store.Schema()), names: names{}, told: map[string]string{}, seen: map[string]seen{},
	}
	c.places = places.New(c.store)
	api := ecs.New(ecs.Config{Store: c.store, Places: c.places, Scope: c.scope, NewID: c.newID})
	endpoint := wire.NewEndpoint(wire.Config{Keys: oneKey{}, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Services: []*wire.Service{api}})
	c.client = sdk.New(sdk.Options{
		Region: c.scope.Region, BaseEndpoint: aws.String("http://berth.test"), HTTPClient: inProcess{endpoint}, Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}, nil
		}),
	})
	c.startServer()
	if _, err := c.client.CreateCluster(ctx, &sdk.CreateClusterInput{}); err != nil {
		return nil, fmt.Errorf("create the default cluster: %w", err)
	}
	return c, nil
}

const (
	accessKey = "AKIASIMULATED0000000"
	secretKey = "secret"
)

// oneKey is the authority of a simulated server.
type oneKey struct{}

// Secret implements wire.Keys.
func (oneKey) Secret(id, _ string) (string, wire.Caller, error) {
	if id != accessKey {
		return "", wire.Caller{}, model.Errorf("UnrecognizedClientException", "unknown key %s", id)
	}
	return secretKey, wire.Caller{Account: "000000000000", ARN: "arn:aws:iam::000000000000:root", AccessKeyID: id}, nil
}

// inProcess answers requests without a network.
type inProcess struct{ handler http.Handler }

// Do implements the SDK's HTTP client.
func (p inProcess) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	r.Host = r.URL.Host
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

// newID returns the next id of 32 hexadecimal digits.
func (c *Cluster) newID() string {
	c.ids++
	return fmt.Sprintf("%032x", c.ids)
}

// startServer makes the parts that a restart of the server makes anew. The store and the nodes outlive it.
func (c *Cluster) startServer() {
	c.serving, c.hangUp = context.WithCancel(c.ctx)
	c.server = nodelink.NewServer(nodelink.ServerConfig{Store: c.store})
	c.control = control.New(control.Config{Store: c.store, Places: c.places, Scope: c.scope, Now: time.Now, NewID: c.newID, Pace: c.pace,
		Log: slog.New(slog.DiscardHandler)})
	for _, n := range c.nodes {
		n.serveWith(c.serving, c.server)
	}
}

// RestartServer ends the server's sessions and begins again from the store.
func (c *Cluster) RestartServer() error {
	c.hangUp()
	c.wait()
	c.startServer()
	if err := c.server.Forget(c.ctx); err != nil {
		return err
	}
	return c.settle()
}

// Advance turns the clock, second by second.
func (c *Cluster) Advance(d time.Duration) error {
	for ; d > 0; d -= time.Second {
		time.Sleep(min(d, time.Second))
		if err := c.settle(); err != nil {
			return err
		}
	}
	return nil
}

// maxRounds bounds settle: a cluster that does not come to rest at one instant has an endless loop.
const maxRounds = 100

// settle lets everything happen that happens without time passing.
func (c *Cluster) settle() error {
	for range maxRounds {
		before := c.revision()
		c.wait()
		if _, err := c.control.Step(c.ctx); err != nil {
			return fmt.Errorf("step the control loop: %w", err)
		}
		c.wait()
		for _, n := range c.nodes {
			n.step(time.Now())
		}
		c.wait()
		if err := c.judge(); err != nil {
			return err
		}
		if err := c.probeTargets(); err != nil {
			return err
		}
		if c.revision() == before {
			return c.check()
		}
	}
	return fmt.Errorf("the cluster does not come to rest: something still changes after %d rounds at one instant", maxRounds)
}

func (c *Cluster) view() (r store.Reader) {
	c.store.View(func(v store.Reader) { r = v })
	return r
}

func (c *Cluster) revision() uint64 { return c.view().Revision() }

func (c *Cluster) update(f func(tx store.Tx)) error {
	return c.store.Update(c.ctx, func(tx store.Tx) error { f(tx); return nil })
}

// lostAfter is how long a machine is silent until it is called lost, in whole seconds.
const lostAfter = 2 * time.Second

// judge pronounces the verdicts that plan/judge would.
func (c *Cluster) judge() error {
	return c.update(func(tx store.Tx) {
		for _, n := range c.nodes {
			n.mu.Lock()
			lost := n.cut && time.Since(n.off) >= lostAfter
			n.mu.Unlock()
			if row, ok := store.Nodes.Get(tx, n.ID); ok && row.Lost() != lost {
				changed := *row
				changed.Life = model.Life{}
				if lost {
					changed.Life = model.Life{Verdict: model.NodeLost, Since: time.Now()}
				}
				store.Nodes.Put(tx, &changed)
			}
		}
	})
}

// probeTargets is the load balancer: a target of a task that runs is healthy unless its image is called sick, and a draining one
// is drained after a second.
func (c *Cluster) probeTargets() error {
	return c.update(func(tx store.Tx) {
		for _, t := range slices.Collect(store.Targets.Scan(tx, "")) {
			h := model.TargetHealth{TargetGroupARN: t.TargetGroupARN, ID: t.ID, Port: t.Port, State: elbtypes.TargetHealthStateEnumHealthy}
			if task, ok := store.Tasks.Get(tx, t.Task); ok && len(task.Observed.Containers) > 0 &&
				behaviour(task.Observed.Containers[0].Image) == sick {
				h.State, h.Description = elbtypes.TargetHealthStateEnumUnhealthy, "Health checks failed with these codes: [502]"
			}
			if !t.DrainingSince.IsZero() {
				h.State, h.Drained = elbtypes.TargetHealthStateEnumDraining, time.Since(t.DrainingSince) >= time.Second
			}
			old, ok := store.TargetHealths.Get(tx, h.Key())
			if ok && old.State == h.State && old.Drained == h.Drained {
				continue
			}
			h.Since = time.Now()
			store.TargetHealths.Put(tx, &h)
		}
	})
}
