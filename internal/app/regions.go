package app

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/internal/api/discovery"
	"github.com/berthdev/berth/internal/api/ec2"
	"github.com/berthdev/berth/internal/api/ecs"
	"github.com/berthdev/berth/internal/api/eks"
	"github.com/berthdev/berth/internal/api/elb"
	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/kms"
	"github.com/berthdev/berth/internal/api/logs"
	"github.com/berthdev/berth/internal/api/secretsmanager"
	"github.com/berthdev/berth/internal/api/sts"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/control"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/places"
	"github.com/berthdev/berth/internal/serve/keys"
	"github.com/berthdev/berth/internal/serve/logstore"
	logcopies "github.com/berthdev/berth/internal/serve/logstore/copies"
	"github.com/berthdev/berth/internal/store"
)

// knownRegions are AWS's of today, besides which the home region may have any name. A signature for another is refused as AWS does.
var knownRegions = []string{"af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
	"ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7", "ca-central-1",
	"ca-west-1", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "il-central-1",
	"me-central-1", "me-south-1", "mx-central-1", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2"}

// globalServices have one state for all regions: that of the home region.
var globalServices = []string{"sts", "iam", "route53"}

// region is what a region has of its own: its part of the store, its logs, and the APIs over them. Machines belong to the home region.
type region struct {
	scope    model.Scope
	store    store.Store
	places   *places.Keeper
	keys     *keys.Ring
	logs     *logstore.Store          // of this server
	lines    *logcopies.Logs          // of all servers together
	services map[string]*wire.Service // by the name in a signature's scope
}

// regions are those that somebody has asked for since the start. Their rows, and with them their control, come with the first write.
type regions struct {
	mu   sync.Mutex
	open map[string]*region
}

// regional returns the service as it is in a region; home is that of the home region.
func (s *server) regional(name string, home *wire.Service) (*wire.Service, error) {
	if name == s.in.Region || slices.Contains(globalServices, home.Name) {
		return home, nil
	}
	if !slices.Contains(knownRegions, name) {
		return nil, model.Errorf("InvalidSignatureException", "Credential should be scoped to a valid region.")
	}
	r, err := s.region(name)
	if err != nil {
		return nil, err
	}
	if own, ok := r.services[home.Name]; ok {
		return own, nil
	}
	return home, nil // it keeps nothing
}

// region opens a region that is not the home region.
func (s *server) region(name string) (*region, error) {
	s.regions.mu.Lock()
	defer s.regions.mu.Unlock()
	if r, ok := s.regions.open[name]; ok {
		return r, nil
	}
	events, err := logstore.Open(s.in.Path("logs."+name), logstore.Config{Log: s.log.With("component", "logstore", "region", name), Now: time.Now})
	if err != nil {
		return nil, fmt.Errorf("open the logs of %s: %w", name, err)
	}
	r := &region{scope: model.Scope{Account: s.in.Account, Region: name}, store: store.Partition(s.store, name), logs: events,
		services: map[string]*wire.Service{}}
	r.places = places.New(r.store)
	r.keys = s.newRing(r)
	s.shareLogs(r)
	for _, service := range s.servicesOf(r) {
		r.services[service.Name] = service
	}
	home := s.in.Region
	r.services["ecr"].Refuse("CreateRepository", model.Errorf("InvalidParameterException",
		"Berth's registry is in %s; %s has none yet. Create the repository in %s.", home, name, home))
	r.services["elasticloadbalancing"].Refuse("CreateLoadBalancer", model.Errorf("ValidationError",
		"Berth's machines are in %s; %s has none, so a load balancer there would serve nobody. Create it in %s.", home, name, home))
	if s.regions.open == nil {
		s.regions.open = map[string]*region{}
	}
	s.regions.open[name] = r
	return r, nil
}

// home is the home region as the APIs see it.
func (s *server) home() *region {
	s.homeRegion.store, s.homeRegion.places = s.store, s.places
	if s.homeRegion.keys == nil {
		s.homeRegion.keys = s.newRing(s.homeRegion)
	}
	return s.homeRegion
}

// servicesOf are the APIs of a region.
func (s *server) servicesOf(r *region) []*wire.Service {
	network, _ := s.in.network(r.scope) // the instance was checked when it was opened
	var subnets []elb.Subnet
	for _, n := range network.Subnets {
		subnets = append(subnets, elb.Subnet{ID: n.ID, Zone: n.Zone})
	}
	return append(s.eventServices(r), []*wire.Service{
		ecs.New(ecs.Config{Store: r.store, Places: r.places, Scope: r.scope, Now: time.Now, NewID: newID, Log: s.log.With("component", "ecs"),
			OpenSession: s.openSession, Networks: network.Rows(), NoMachines: s.noMachines(r.scope.Region)}),
		s.ecr(r),
		logs.New(logs.Config{Store: r.lines, Scope: r.scope, Now: time.Now, Log: s.log.With("component", "logs")}),
		elb.New(elb.Config{Store: r.store, Scope: r.scope, Now: time.Now, NewID: newID, Log: s.log.With("component", "elb"), VPC: network.VPC,
			Subnets: subnets, SecurityGroup: network.SecurityGroup, Networks: network.Rows()}),
		kms.New(kms.Config{Store: r.store, Ring: r.keys, Scope: r.scope, Now: time.Now, Log: s.log.With("component", "kms")}),
		secretsmanager.New(secretsmanager.Config{Store: r.store, Vault: r.vault(), Ring: r.keys, Scope: r.scope, Now: time.Now,
			Log: s.log.With("component", "secretsmanager")}),
		discovery.New(discovery.Config{Store: r.store, Scope: r.scope, Now: time.Now, DNS: r == s.homeRegion,
			HasVPC: func(tx store.Reader, id string) bool {
				_, ok := store.VPCs.Get(tx, id)
				return ok || id == network.VPC
			}}),
		ec2.New(ec2.Config{Store: r.store, Network: network, Now: time.Now, NewID: newID, Log: s.log.With("component", "ec2")}),
		sts.New(sts.Config{Store: s.store, Scope: s.in.Scope(), Now: time.Now, Sessions: s.keys}),
		iam.New(iam.Config{Store: s.store, Scope: s.in.Scope(), Now: time.Now, Keys: s.keys}),
		eks.New(),
		s.systems(r),
	}...)
}

// noMachines is why no task runs in a region; "" for the home region.
func (s *server) noMachines(region string) string {
	if region == s.in.Region {
		return ""
	}
	return fmt.Sprintf("The region %s has no machines: Berth's are in %s.", region, s.in.Region)
}

// controlRegions runs a control for each region that holds something, until ctx is done.
func (s *server) controlRegions(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	w := s.store.Watch(ctx, store.Regions.All())
	running := map[string]bool{}
	for {
		var names []string
		s.store.View(func(r store.Reader) {
			for row := range store.Regions.Scan(r, "") {
				names = append(names, row.Name)
			}
		})
		for _, name := range names {
			if running[name] {
				continue
			}
			running[name] = true
			r, err := s.region(name)
			if err != nil {
				s.log.Error("cannot look after a region", "region", name, "error", err)
				continue
			}
			c := control.New(control.Config{Store: r.store, Places: r.places, Scope: r.scope, Now: time.Now, NewID: newID, Pace: s.in.Pace,
				NoMachines: s.noMachines(name), Log: s.log.With("component", "control", "region", name)})
			g.Go(func() error { return c.Run(ctx) })
			g.Go(func() error { return s.tell(ctx, r) })
		}
		if _, ok := <-w.C(); !ok {
			return g.Wait()
		}
		w.Take()
	}
}

// each calls f with every region that is open, besides the home region.
func (r *regions) each(f func(*region)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.open {
		f(one)
	}
}
