package ecs

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// tasksService is who takes on the roles of tasks.
const tasksService = "ecs-tasks.amazonaws.com"

// asks tells what a request wants to be allowed: its action on what it names, each with its tags; iam:PassRole for each role that it
// hands over; and ecs:TagResource for the tags of what it makes.
func (a *api) asks(_ context.Context, op string, in any) (asks []wire.Ask) {
	cluster, ok := a.clusterName(clusterOf(in))
	if !ok {
		cluster = *clusterOf(in) // another's: nothing of this account matches it
	}
	var keys map[string][]string
	a.store.View(func(r store.Reader) {
		keys = a.requestKeys(r, in, cluster)
		for _, arn := range a.about(r, op, in, cluster) {
			ask := wire.Ask{Action: "ecs:" + op, Resources: []string{arn}, Context: maps.Clone(keys)}
			there, _ := a.taggedResource(r, arn) // what is not there has no tags
			for _, t := range there.tags {
				k, v := value(t.Key), value(t.Value)
				ask.Context["aws:ResourceTag/"+k], ask.Context["ecs:ResourceTag/"+k] = []string{v}, []string{v}
			}
			asks = append(asks, ask)
		}
	})
	if len(asks) == 0 {
		asks = []wire.Ask{{Action: "ecs:" + op, Context: keys}}
	}
	for _, role := range passed(in) {
		asks = append(asks, wire.Ask{Action: "iam:PassRole", Resources: []string{a.roleARN(role[0])},
			Context: map[string][]string{"iam:PassedToService": {role[1]}}})
	}
	if made := a.makes(op, in, cluster); made != "" && len(keys["aws:TagKeys"]) > 0 {
		tagged := maps.Clone(keys)
		tagged["ecs:CreateAction"] = []string{op}
		asks = append(asks, wire.Ask{Action: "ecs:TagResource", Resources: []string{made}, Context: tagged})
	}
	return asks
}

// clusterOf is the cluster that a request names.
func clusterOf(in any) *string {
	if c := wire.Text(in, "Cluster"); c != "" {
		return &c
	}
	return nil
}

// requestKeys are the condition keys of the request itself.
func (a *api) requestKeys(r store.Reader, in any, cluster string) map[string][]string {
	keys := wire.RequestTags(in)
	v := reflect.ValueOf(in).Elem()
	if v.FieldByName("Cluster").IsValid() {
		keys["ecs:cluster"] = []string{arnOf(cluster, a.scope.ClusterARN)}
	}
	if t := wire.Text(in, "TaskDefinition"); t != "" && v.FieldByName("Cluster").IsValid() {
		keys["ecs:task-definition"] = []string{a.definitionARN(r, t)}
	}
	if s := wire.Text(in, "Service"); s != "" {
		if name, ok := a.member("service", cluster, s); ok {
			keys["ecs:service"] = []string{a.scope.ServiceARN(cluster, name)}
		}
	}
	if f := v.FieldByName("EnableExecuteCommand"); f.IsValid() {
		keys["ecs:enable-execute-command"] = []string{fmt.Sprint(reflect.Indirect(f))}
		if f.Kind() == reflect.Pointer && f.IsNil() {
			delete(keys, "ecs:enable-execute-command")
		}
	}
	if f := v.FieldByName("CapacityProviderStrategy"); f.IsValid() {
		if all, ok := reflect.TypeAssert[[]types.CapacityProviderStrategyItem](f); ok {
			for _, p := range all {
				keys["ecs:capacity-provider"] = append(keys["ecs:capacity-provider"], arnOf(value(p.CapacityProvider), a.scope.CapacityProviderARN))
			}
		}
	}
	if e, ok := in.(*sdk.ExecuteCommandInput); ok && e.Container != nil {
		keys["ecs:container-name"] = []string{*e.Container}
	}
	if s, ok := in.(*sdk.StartTaskInput); ok {
		for _, i := range s.ContainerInstances {
			keys["ecs:container-instances"] = append(keys["ecs:container-instances"], a.memberARN("container-instance", cluster, i))
		}
	}
	return keys
}

// memberARN is the ARN of something of a cluster, by its id or ARN.
func (a *api) memberARN(kind, cluster, ref string) string {
	if strings.HasPrefix(ref, "arn:") {
		if rest, ok := a.resource(kind, ref); !ok || strings.Contains(rest, "/") {
			return ref
		}
	}
	return a.scope.ARN("ecs", kind+"/"+cluster+"/"+model.ARNTail(ref))
}

// definitionARN is the ARN of a task definition, with its revision where one can be told.
func (a *api) definitionARN(r store.Reader, ref string) string {
	rest, ok := a.resource("task-definition", ref)
	if !ok {
		return ref
	}
	family, revision, _ := strings.Cut(rest, ":")
	if revision == "" {
		if def, err := a.activeRevision(r, &ref); err == nil {
			revision = fmt.Sprint(def.Revision)
		}
	}
	if revision == "" {
		revision = "*"
	}
	return a.scope.ARN("ecs", "task-definition/"+family+":"+revision)
}

// lists are the members by which requests name things of a cluster.
var lists = []struct{ kind, member string }{{"service", "Service"}, {"service", "Services"}, {"task", "Task"}, {"task", "Tasks"},
	{"container-instance", "ContainerInstance"}, {"container-instance", "ContainerInstances"}}

// about returns the ARNs of what a request is about; none for what AWS gives no resource.
func (a *api) about(r store.Reader, op string, in any, cluster string) (arns []string) {
	switch op {
	case "CreateCluster":
		name := wire.Text(in, "ClusterName")
		if name == "" {
			name = model.DefaultCluster
		}
		return []string{a.scope.ClusterARN(name)}
	case "RunTask", "StartTask":
		return []string{a.definitionARN(r, wire.Text(in, "TaskDefinition"))}
	case "RegisterTaskDefinition":
		return []string{a.scope.ARN("ecs", "task-definition/"+wire.Text(in, "Family")+":*")}
	case "DescribeTaskDefinition", "DeregisterTaskDefinition", "ListServices", "ListClusters", "DiscoverPollEndpoint":
		return nil
	case "CreateService":
		return []string{a.scope.ServiceARN(cluster, wire.Text(in, "ServiceName"))}
	case "ListTasks":
		return []string{a.scope.ARN("ecs", "container-instance/"+cluster+"/*")}
	case "DescribeClusters":
		for _, c := range wire.Texts(in, "Clusters") {
			arns = append(arns, arnOf(c, a.scope.ClusterARN))
		}
		if len(arns) == 0 {
			arns = []string{a.scope.ClusterARN(model.DefaultCluster)}
		}
		return arns
	case "DeleteTaskDefinitions":
		for _, t := range wire.Texts(in, "TaskDefinitions") {
			arns = append(arns, a.definitionARN(r, t))
		}
		return arns
	case "ExecuteCommand":
		return []string{arnOf(cluster, a.scope.ClusterARN), a.memberARN("task", cluster, wire.Text(in, "Task"))}
	}
	return a.aboutOther(op, in, cluster)
}

// aboutOther goes by the names of members.
func (a *api) aboutOther(op string, in any, cluster string) (arns []string) {
	for _, member := range []string{"ResourceArn", "ServiceDeploymentArn", "ServiceDeploymentArns", "ServiceRevisionArns"} {
		if arns := wire.Texts(in, member); len(arns) > 0 {
			return arns
		}
	}
	for _, l := range lists {
		for _, ref := range wire.Texts(in, l.member) {
			arns = append(arns, a.memberARN(l.kind, cluster, ref))
		}
		if len(arns) > 0 {
			return arns
		}
	}
	if p, ok := in.(*sdk.PutAttributesInput); ok {
		return a.attributeTargets(p.Attributes, cluster)
	}
	if p, ok := in.(*sdk.DeleteAttributesInput); ok {
		return a.attributeTargets(p.Attributes, cluster)
	}
	if reflect.ValueOf(in).Elem().FieldByName("Cluster").IsValid() {
		return []string{arnOf(cluster, a.scope.ClusterARN)}
	}
	return nil
}

func (a *api) attributeTargets(all []types.Attribute, cluster string) (arns []string) {
	for _, t := range all {
		arns = append(arns, a.memberARN("container-instance", cluster, value(t.TargetId)))
	}
	return arns
}

// makes is the ARN of what an operation makes, "" for those that make nothing that has tags.
func (a *api) makes(op string, in any, cluster string) string {
	switch op {
	case "CreateCluster", "CreateService", "RegisterTaskDefinition":
		return a.about(nil, op, in, cluster)[0]
	case "RunTask", "StartTask":
		return a.scope.ARN("ecs", "task/"+cluster+"/*")
	}
	return ""
}

// passed are the roles that a request hands over, and to whom.
func passed(in any) (roles [][2]string) {
	add := func(role *string, to string) {
		if r := value(role); r != "" {
			roles = append(roles, [2]string{r, to})
		}
	}
	switch in := in.(type) {
	case *sdk.RegisterTaskDefinitionInput:
		add(in.TaskRoleArn, tasksService)
		add(in.ExecutionRoleArn, tasksService)
	case *sdk.RunTaskInput:
		if in.Overrides != nil {
			add(in.Overrides.TaskRoleArn, tasksService)
			add(in.Overrides.ExecutionRoleArn, tasksService)
		}
		for _, v := range in.VolumeConfigurations {
			if v.ManagedEBSVolume != nil {
				add(v.ManagedEBSVolume.RoleArn, "ecs.amazonaws.com")
			}
		}
	case *sdk.StartTaskInput:
		if in.Overrides != nil {
			add(in.Overrides.TaskRoleArn, tasksService)
			add(in.Overrides.ExecutionRoleArn, tasksService)
		}
	case *sdk.CreateServiceInput:
		add(in.Role, "ecs.amazonaws.com")
		for _, l := range in.LoadBalancers {
			if l.AdvancedConfiguration != nil {
				add(l.AdvancedConfiguration.RoleArn, "ecs.amazonaws.com")
			}
		}
	case *sdk.UpdateServiceInput:
		for _, l := range in.LoadBalancers {
			if l.AdvancedConfiguration != nil {
				add(l.AdvancedConfiguration.RoleArn, "ecs.amazonaws.com")
			}
		}
	}
	return roles
}

// roleARN is the ARN of a role that may be given by its name.
func (a *api) roleARN(role string) string {
	if strings.HasPrefix(role, "arn:") {
		return role
	}
	return "arn:" + model.Partition + ":iam::" + a.scope.Account + ":role/" + strings.TrimPrefix(role, "/")
}
