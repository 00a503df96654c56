// Package ecs serves the API of Amazon ECS: its operations validate, change the store and answer. They place tasks, since a
// client hears at once where nothing fits, but never wait for a container: control and the agents act on what is stored.
package ecs

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/schemas"
	smithy "github.com/aws/smithy-go"

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
}

// api holds the operations.
type api struct {
	store  store.Store
	places *places.Keeper
	scope  model.Scope
	// noMachines is the Config's.
	noMachines string
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
		Modelled: modelled(), Types: sdk.TypeRegistry,
	}
	a.registerClusters(s)
	a.registerTaskDefinitions(s)
	a.registerTasks(s)
	a.registerServices(s)
	a.registerInstances(s)
	return s
}

func newAPI(c Config) *api {
	a := &api{store: c.Store, places: c.Places, scope: c.Scope, noMachines: c.NoMachines, now: c.Now, newID: c.NewID, log: c.Log}
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

// handle adds an operation by the schemas of its request and response.
func handle[In, Out any](
	s *wire.Service, op, in, out *smithy.Schema, h func(context.Context, *In) (*Out, error),
) {
	wire.Handle(s, op.ID().Name, smithy.NewOperationSchema(op, in, out), h)
}

func (a *api) registerClusters(s *wire.Service) {
	handle(s, schemas.CreateCluster, schemas.CreateClusterRequest, schemas.CreateClusterResponse, a.createCluster)
	handle(s, schemas.DescribeClusters, schemas.DescribeClustersRequest, schemas.DescribeClustersResponse, a.describeClusters)
	handle(s, schemas.ListClusters, schemas.ListClustersRequest, schemas.ListClustersResponse, a.listClusters)
	handle(s, schemas.UpdateCluster, schemas.UpdateClusterRequest, schemas.UpdateClusterResponse, a.updateCluster)
	handle(s, schemas.UpdateClusterSettings, schemas.UpdateClusterSettingsRequest, schemas.UpdateClusterSettingsResponse,
		a.updateClusterSettings)
	handle(s, schemas.DeleteCluster, schemas.DeleteClusterRequest, schemas.DeleteClusterResponse, a.deleteCluster)
	handle(s, schemas.PutClusterCapacityProviders, schemas.PutClusterCapacityProvidersRequest,
		schemas.PutClusterCapacityProvidersResponse, a.putClusterCapacityProviders)
	handle(s, schemas.DescribeCapacityProviders, schemas.DescribeCapacityProvidersRequest,
		schemas.DescribeCapacityProvidersResponse, a.describeCapacityProviders)
	handle(s, schemas.TagResource, schemas.TagResourceRequest, schemas.TagResourceResponse, a.tagResource)
	handle(s, schemas.UntagResource, schemas.UntagResourceRequest, schemas.UntagResourceResponse, a.untagResource)
	handle(s, schemas.ListTagsForResource, schemas.ListTagsForResourceRequest, schemas.ListTagsForResourceResponse,
		a.listTagsForResource)
	handle(s, schemas.PutAccountSetting, schemas.PutAccountSettingRequest, schemas.PutAccountSettingResponse, a.putAccountSetting)
	handle(s, schemas.PutAccountSettingDefault, schemas.PutAccountSettingDefaultRequest,
		schemas.PutAccountSettingDefaultResponse, a.putAccountSettingDefault)
	handle(s, schemas.ListAccountSettings, schemas.ListAccountSettingsRequest, schemas.ListAccountSettingsResponse,
		a.listAccountSettings)
	handle(s, schemas.DeleteAccountSetting, schemas.DeleteAccountSettingRequest, schemas.DeleteAccountSettingResponse,
		a.deleteAccountSetting)
}

func (a *api) registerTaskDefinitions(s *wire.Service) {
	handle(s, schemas.RegisterTaskDefinition, schemas.RegisterTaskDefinitionRequest, schemas.RegisterTaskDefinitionResponse,
		a.registerTaskDefinition)
	handle(s, schemas.DescribeTaskDefinition, schemas.DescribeTaskDefinitionRequest, schemas.DescribeTaskDefinitionResponse,
		a.describeTaskDefinition)
	handle(s, schemas.ListTaskDefinitions, schemas.ListTaskDefinitionsRequest, schemas.ListTaskDefinitionsResponse,
		a.listTaskDefinitions)
	handle(s, schemas.ListTaskDefinitionFamilies, schemas.ListTaskDefinitionFamiliesRequest,
		schemas.ListTaskDefinitionFamiliesResponse, a.listTaskDefinitionFamilies)
	handle(s, schemas.DeregisterTaskDefinition, schemas.DeregisterTaskDefinitionRequest,
		schemas.DeregisterTaskDefinitionResponse, a.deregisterTaskDefinition)
	handle(s, schemas.DeleteTaskDefinitions, schemas.DeleteTaskDefinitionsRequest, schemas.DeleteTaskDefinitionsResponse,
		a.deleteTaskDefinitions)
}

func (a *api) registerTasks(s *wire.Service) {
	handle(s, schemas.RunTask, schemas.RunTaskRequest, schemas.RunTaskResponse, a.runTask)
	handle(s, schemas.StartTask, schemas.StartTaskRequest, schemas.StartTaskResponse, a.startTask)
	handle(s, schemas.StopTask, schemas.StopTaskRequest, schemas.StopTaskResponse, a.stopTask)
	handle(s, schemas.DescribeTasks, schemas.DescribeTasksRequest, schemas.DescribeTasksResponse, a.describeTasks)
	handle(s, schemas.ListTasks, schemas.ListTasksRequest, schemas.ListTasksResponse, a.listTasks)
}

func (a *api) registerServices(s *wire.Service) {
	handle(s, schemas.CreateService, schemas.CreateServiceRequest, schemas.CreateServiceResponse, a.createService)
	handle(s, schemas.UpdateService, schemas.UpdateServiceRequest, schemas.UpdateServiceResponse, a.updateService)
	handle(s, schemas.DeleteService, schemas.DeleteServiceRequest, schemas.DeleteServiceResponse, a.deleteService)
	handle(s, schemas.DescribeServices, schemas.DescribeServicesRequest, schemas.DescribeServicesResponse, a.describeServices)
	handle(s, schemas.ListServices, schemas.ListServicesRequest, schemas.ListServicesResponse, a.listServices)
	handle(s, schemas.ListServiceDeployments, schemas.ListServiceDeploymentsRequest, schemas.ListServiceDeploymentsResponse,
		a.listServiceDeployments)
	handle(s, schemas.DescribeServiceDeployments, schemas.DescribeServiceDeploymentsRequest,
		schemas.DescribeServiceDeploymentsResponse, a.describeServiceDeployments)
	handle(s, schemas.DescribeServiceRevisions, schemas.DescribeServiceRevisionsRequest,
		schemas.DescribeServiceRevisionsResponse, a.describeServiceRevisions)
	handle(s, schemas.StopServiceDeployment, schemas.StopServiceDeploymentRequest, schemas.StopServiceDeploymentResponse,
		a.stopServiceDeployment)
}

func (a *api) registerInstances(s *wire.Service) {
	handle(s, schemas.DescribeContainerInstances, schemas.DescribeContainerInstancesRequest,
		schemas.DescribeContainerInstancesResponse, a.describeContainerInstances)
	handle(s, schemas.ListContainerInstances, schemas.ListContainerInstancesRequest,
		schemas.ListContainerInstancesResponse, a.listContainerInstances)
	handle(s, schemas.DeregisterContainerInstance, schemas.DeregisterContainerInstanceRequest,
		schemas.DeregisterContainerInstanceResponse, a.deregisterContainerInstance)
	handle(s, schemas.UpdateContainerInstancesState, schemas.UpdateContainerInstancesStateRequest,
		schemas.UpdateContainerInstancesStateResponse, a.updateContainerInstancesState)
	handle(s, schemas.PutAttributes, schemas.PutAttributesRequest, schemas.PutAttributesResponse, a.putAttributes)
	handle(s, schemas.DeleteAttributes, schemas.DeleteAttributesRequest, schemas.DeleteAttributesResponse, a.deleteAttributes)
	handle(s, schemas.ListAttributes, schemas.ListAttributesRequest, schemas.ListAttributesResponse, a.listAttributes)
}

// modelled lists the operations of ECS, those that Berth serves and those that it refuses by name.
func modelled() []string {
	return []string{
		"AssociateGatewayWithCluster", "ContinueServiceDeployment", "CreateCapacityProvider", "CreateCluster", "CreateDaemon",
		"CreateExpressGatewayService", "CreateGateway", "CreateService", "CreateTaskSet", "DeleteAccountSetting",
		"DeleteAttributes", "DeleteCapacityProvider", "DeleteCluster", "DeleteDaemon", "DeleteDaemonTaskDefinition",
		"DeleteExpressGatewayService", "DeleteGateway", "DeleteService", "DeleteTaskDefinitions", "DeleteTaskSet",
		"DeregisterContainerInstance", "DeregisterTaskDefinition", "DescribeCapacityProviders", "DescribeClusters",
		"DescribeContainerInstances", "DescribeDaemon", "DescribeDaemonDeployments", "DescribeDaemonRevisions",
		"DescribeDaemonTaskDefinition", "DescribeExpressGatewayService", "DescribeGateway", "DescribeGatewayResources",
		"DescribeGatewayRoute", "DescribeServiceDeployments", "DescribeServiceRevisions", "DescribeServices",
		"DescribeTaskDefinition", "DescribeTaskSets", "DescribeTasks", "DisassociateGatewayFromCluster",
		"DiscoverPollEndpoint", "ExecuteCommand", "GetTaskProtection", "ListAccountSettings", "ListAttributes",
		"ListClusters", "ListContainerInstances", "ListDaemonDeployments", "ListDaemonTaskDefinitions", "ListDaemons",
		"ListGatewayClusterAssociations", "ListGatewayRoutes", "ListGateways", "ListServiceDeployments", "ListServices",
		"ListServicesByNamespace", "ListTagsForResource", "ListTaskDefinitionFamilies", "ListTaskDefinitions", "ListTasks",
		"PutAccountSetting", "PutAccountSettingDefault", "PutAttributes", "PutClusterCapacityProviders",
		"RegisterContainerInstance", "RegisterDaemonTaskDefinition", "RegisterTaskDefinition", "RunTask", "StartTask",
		"StopServiceDeployment", "StopTask", "SubmitAttachmentStateChanges", "SubmitContainerStateChange",
		"SubmitTaskStateChange", "TagResource", "UntagResource", "UpdateCapacityProvider", "UpdateCluster",
		"UpdateClusterSettings", "UpdateContainerAgent", "UpdateContainerInstancesState", "UpdateDaemon",
		"UpdateExpressGatewayService", "UpdateGateway", "UpdateService", "UpdateServicePrimaryTaskSet",
		"UpdateTaskProtection", "UpdateTaskSet",
	}
}
