// Package ecs serves the API of Amazon ECS: its operations validate, change the store and answer. They place tasks, since a
// client hears at once where nothing fits, but never wait for a container: control and the agents act on what is stored.
package ecs

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/places"
	"github.com/berthdev/berth/internal/store"
)

// Config is what the API needs. Store and Scope are required.
type Config struct {
	Store store.Store
	// Places is shared with control; nil makes one.
	Places *places.Keeper
	Scope  model.Scope
	Now    func() time.Time // nil means time.Now
	NewID  func() string    // fresh ids of 32 hexadecimal digits; nil means random ones
	Log    *slog.Logger     // nil discards
	// NoMachines is why no task can run here, a sentence; "" where there are machines.
	NoMachines string
	// Networks are the default VPC's rows; with them subnets and security groups must exist. nil: any name will do.
	Networks *store.Computed
	// OpenSession makes a session in a container, which its client begins; nil where there are none.
	OpenSession func(context.Context, Command) (*types.Session, error)
}

// api holds the operations.
type api struct {
	store    store.Store
	places   *places.Keeper
	scope    model.Scope
	networks *store.Computed // the Config's
	// noMachines is the Config's.
	noMachines string
	session    func(context.Context, Command) (*types.Session, error)
	now        func() time.Time
	newID      func() string
	log        *slog.Logger
	swept      atomic.Int64 // Unix seconds of the last sweep of expired client tokens
}

// New returns the service "ecs" for the endpoint.
func New(c Config) *wire.Service {
	a := newAPI(c)
	s := &wire.Service{
		Name: "ecs", Protocol: wire.JSON11, Target: "AmazonEC2ContainerServiceV20141113",
		Types: sdk.TypeRegistry, Asks: a.asks,
	}
	a.registerClusters(s)
	a.registerTaskDefinitions(s)
	a.registerTasks(s)
	a.registerServices(s)
	a.registerInstances(s)
	return s
}

func newAPI(c Config) *api {
	a := &api{store: c.Store, places: c.Places, scope: c.Scope, noMachines: c.NoMachines, networks: c.Networks, session: c.OpenSession, now: c.Now, newID: c.NewID, log: c.Log}
	if a.places == nil && c.Store != nil {
		a.places = places.New(c.Store)
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.newID == nil {
		a.newID = randomID
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	return a
}

func (a *api) registerClusters(s *wire.Service) {
	wire.Handle(s, a.createCluster)
	wire.Handle(s, a.describeClusters)
	wire.Handle(s, a.listClusters)
	wire.Handle(s, a.updateCluster)
	wire.Handle(s, a.updateClusterSettings)
	wire.Handle(s, a.deleteCluster)
	wire.Handle(s, a.putClusterCapacityProviders)
	wire.Handle(s, a.describeCapacityProviders)
	wire.Handle(s, a.createCapacityProvider)
	wire.Handle(s, a.updateCapacityProvider)
	wire.Handle(s, a.deleteCapacityProvider)
	wire.Handle(s, a.tagResource)
	wire.Handle(s, a.untagResource)
	wire.Handle(s, a.listTagsForResource)
	wire.Handle(s, a.putAccountSetting)
	wire.Handle(s, a.putAccountSettingDefault)
	wire.Handle(s, a.listAccountSettings)
	wire.Handle(s, a.deleteAccountSetting)
}

func (a *api) registerTaskDefinitions(s *wire.Service) {
	wire.Handle(s, a.registerTaskDefinition)
	wire.Handle(s, a.describeTaskDefinition)
	wire.Handle(s, a.listTaskDefinitions)
	wire.Handle(s, a.listTaskDefinitionFamilies)
	wire.Handle(s, a.deregisterTaskDefinition)
	wire.Handle(s, a.deleteTaskDefinitions)
}

func (a *api) registerTasks(s *wire.Service) {
	wire.Handle(s, a.runTask)
	wire.Handle(s, a.startTask)
	wire.Handle(s, a.stopTask)
	wire.Handle(s, a.describeTasks)
	wire.Handle(s, a.listTasks)
	wire.Handle(s, a.executeCommand)
	wire.Handle(s, a.updateTaskProtection)
	wire.Handle(s, a.getTaskProtection)
}

func (a *api) registerServices(s *wire.Service) {
	wire.Handle(s, a.createService)
	wire.Handle(s, a.updateService)
	wire.Handle(s, a.deleteService)
	wire.Handle(s, a.describeServices)
	wire.Handle(s, a.listServices)
	wire.Handle(s, a.listServiceDeployments)
	wire.Handle(s, a.describeServiceDeployments)
	wire.Handle(s, a.describeServiceRevisions)
	wire.Handle(s, a.stopServiceDeployment)
}

func (a *api) registerInstances(s *wire.Service) {
	wire.Handle(s, a.describeContainerInstances)
	wire.Handle(s, a.listContainerInstances)
	wire.Handle(s, a.deregisterContainerInstance)
	wire.Handle(s, a.updateContainerInstancesState)
	wire.Handle(s, a.putAttributes)
	wire.Handle(s, a.deleteAttributes)
	wire.Handle(s, a.listAttributes)
}
