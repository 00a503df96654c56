package store

import (
	"github.com/berthdev/berth/internal/model"
)

// The indexes of the tables, by name. The value of each is given in tables.go.
const (
	ByKey          = "id"       // a row's own key, for Watch alone: Get reads it
	ByCluster      = "cluster"  // a cluster's name
	ByService      = "service"  // <cluster>/<service>
	ByNode         = "node"     // a node's id
	ByEC2          = "ec2"      // the EC2 instance id that a node goes by
	ByTask         = "task"     // a task's id
	ByFamily       = "family"   // a task definition family
	ByLoadBalancer = "lb"       // a load balancer's ARN
	ByListener     = "listener" // a listener's ARN
	ByTargetGroup  = "group"    // a target group's ARN
	ByRepository   = "repo"     // a repository's name
	BySubject      = "subject"  // <repository>@<digest that an image refers to>
	ByName         = "name"     // a resource's name
	ByTarget       = "target"   // what an alias stands for
	// ByOpen lists the tasks of a service (<cluster>/<service>) that have not ended, or whose end its deployment has not counted.
	ByOpen = "open"
	// ByState lists tasks under "pending" (wanted, not placed), "live" (placed, not ended) or "ended".
	ByState  = "state"
	ByViewer = "viewer" // the id of a machine that serves load balancers

	// ByNamespace lists Cloud Map's services by their namespace's id.
	ByNamespace = "namespace"
	// ByOwner lists what belongs to an ECS service (<cluster>/<service>).
	ByOwner = "owner"
)

// The tables.
var (
	Clusters = table[model.Cluster]("clusters")
	// Nodes by ByEC2.
	Nodes = table[model.Node]("nodes",
		by(ByEC2, func(n *model.Node) string { return model.EC2ID(n.ID) }))
	// Instances by ByCluster and ByNode.
	Instances = table[model.Instance]("instances",
		by(ByCluster, func(i *model.Instance) string { return i.Cluster }),
		by(ByNode, func(i *model.Instance) string { return i.NodeID }))
	Servers = table[model.Server]("servers")
	Tokens  = table[model.Token]("tokens")
	// ClusterSettings has one row, model.SettingsKey.
	ClusterSettings = table[model.Settings]("cluster-settings")
	// Blocks by ByNode.
	Blocks = table[model.Block]("blocks",
		by(ByNode, func(b *model.Block) string { return b.Node }))
	// Regions lists the partitions; see Partition.
	Regions         = table[model.Region]("regions")
	AccountSettings = table[model.AccountSetting]("settings")
	Idempotencies   = table[model.Idempotency]("idempotency")

	Families        = table[model.Family]("families")
	TaskDefinitions = table[model.TaskDefinition]("taskdefs",
		by(ByFamily, func(t *model.TaskDefinition) string { return t.Family }))

	// Tasks by ByCluster, ByService, ByOpen, ByNode, ByFamily (<cluster>/<family>) and ByState.
	Tasks = table[model.Task]("tasks",
		by(ByCluster, func(t *model.Task) string { return t.Cluster }),
		by(ByService, serviceOf),
		by(ByOpen, func(t *model.Task) string {
			if t.Ended() && t.Accounted {
				return ""
			}
			return serviceOf(t)
		}),
		by(ByNode, func(t *model.Task) string { return t.NodeID }),
		by(ByFamily, func(t *model.Task) string { return t.Cluster + "/" + t.Family }),
		by(ByState, taskState)).apart(observed)

	CapacityProviders = table[model.CapacityProvider]("capacity-providers")

	Services = table[model.Service]("services",
		by(ByCluster, func(s *model.Service) string { return s.Cluster }))
	ServiceRevisions = table[model.ServiceRevision]("revisions")
	Deployments      = table[model.Deployment]("deployments")
	ServiceEvents    = table[model.ServiceEvent]("events")

	LoadBalancers = table[model.LoadBalancer]("elb-lbs",
		by(ByName, func(l *model.LoadBalancer) string { return l.Name }))
	Listeners = table[model.Listener]("elb-listeners",
		by(ByLoadBalancer, func(l *model.Listener) string { return l.LoadBalancerARN }))
	Rules = table[model.Rule]("elb-rules",
		by(ByListener, func(r *model.Rule) string { return r.ListenerARN }))
	TargetGroups = table[model.TargetGroup]("elb-groups",
		by(ByName, func(g *model.TargetGroup) string { return g.Name }))
	Targets = table[model.Target]("elb-targets",
		by(ByTargetGroup, func(t *model.Target) string { return t.TargetGroupARN }),
		by(ByTask, func(t *model.Target) string { return t.Task }),
		by(ByService, func(t *model.Target) string { return t.Service }))
	TargetHealths = table[model.TargetHealth]("elb-health",
		by(ByTargetGroup, func(t *model.TargetHealth) string { return t.TargetGroupARN }))
	// TargetViews by ByViewer; those of one target begin with its key and "|".
	TargetViews = table[model.TargetView]("elb-views",
		by(ByViewer, func(v *model.TargetView) string { return v.Viewer }))

	// Service discovery (Cloud Map): services by ByNamespace, instances by ByOwner.
	DiscoveryNamespaces = table[model.DiscoveryNamespace]("discovery-namespaces")
	DiscoveryServices   = table[model.DiscoveryService]("discovery-services",
		by(ByNamespace, func(s *model.DiscoveryService) string { return s.Namespace }))
	DiscoveryInstances = table[model.DiscoveryInstance]("discovery-instances",
		by(ByOwner, func(i *model.DiscoveryInstance) string { return i.Owner }))
	DiscoveryRevisions  = table[model.DiscoveryRevision]("discovery-revisions")
	DiscoveryOperations = table[model.DiscoveryOperation]("discovery-operations")

	Repositories = table[model.Repository]("ecr-repos")
	Images       = table[model.Image]("ecr-images",
		by(ByRepository, func(i *model.Image) string { return i.Repository }),
		by(BySubject, func(i *model.Image) string {
			if i.Subject == "" {
				return ""
			}
			return i.Repository + "@" + i.Subject
		}))
	ImageTags = table[model.ImageTag]("ecr-tags",
		by(ByRepository, func(t *model.ImageTag) string { return t.Repository }))
	RepositoryBlobs = table[model.RepositoryBlob]("ecr-blobs",
		by(ByRepository, func(b *model.RepositoryBlob) string { return b.Repository }))
)

// The tables of keys, secrets and parameters.
var (
	// MasterKeys has one row, model.MasterKeyKey, in the home region.
	MasterKeys = table[model.MasterKey]("kms-master")
	KMSKeys    = table[model.KMSKey]("kms-keys")
	// KMSAliases by ByTarget: the id of the key that they stand for.
	KMSAliases = table[model.KMSAlias]("kms-aliases",
		by(ByTarget, func(a *model.KMSAlias) string { return a.KeyID }))

	Parameters        = table[model.Parameter]("ssm-parameters")
	ParameterVersions = table[model.ParameterVersion]("ssm-versions")
	Secrets           = table[model.Secret]("secrets")
	SecretVersions    = table[model.SecretVersion]("secret-versions")
	// S3Buckets and S3Objects are in the home region alone.
	S3Buckets = table[model.S3Bucket]("s3-buckets")
	S3Objects = table[model.S3Object]("s3-objects")
)

// The registry's tables beside repositories, images and blobs.
var (
	// RegistrySettings has one row, model.RegistryKey.
	RegistrySettings  = table[model.RegistrySettings]("ecr-settings")
	PullThroughRules  = table[model.PullThroughRule]("ecr-upstreams")
	CreationTemplates = table[model.CreationTemplate]("ecr-templates")
	// Replications by ByRepository and, those that are not done, ByState under "IN_PROGRESS".
	Replications = table[model.Replication]("ecr-replications",
		by(ByRepository, func(r *model.Replication) string { return r.Repository }),
		by(ByState, func(r *model.Replication) string { return string(r.Status) }))
	Backfills   = table[model.Backfill]("ecr-backfills")
	SealedBlobs = table[model.SealedBlob]("ecr-sealed")
)

// IAM's tables: of the home region, as IAM is one for all regions.
var (
	IAMUsers    = table[model.IAMUser]("iam-users")
	IAMGroups   = table[model.IAMGroup]("iam-groups")
	IAMRoles    = table[model.IAMRole]("iam-roles")
	IAMPolicies = table[model.IAMPolicy]("iam-policies")
	// AccessKeys by ByName: the user's key.
	AccessKeys = table[model.AccessKey]("iam-keys",
		by(ByName, func(k *model.AccessKey) string { return k.User }))
	InstanceProfiles = table[model.InstanceProfile]("iam-profiles")
	OIDCProviders    = table[model.OIDCProvider]("iam-oidc")
	IAMAccounts      = table[model.IAMAccount]("iam-account")
)

// Schema lists every table.
func Schema() []Kind {
	return append(append(eventKinds(), scalingKinds()...), []Kind{
		ConsoleSessions.kind(),
		Clusters.kind(), Nodes.kind(), Instances.kind(), Servers.kind(), Tokens.kind(), ClusterSettings.kind(), Regions.kind(), AccountSettings.kind(), Idempotencies.kind(),
		Blocks.kind(),
		Families.kind(), TaskDefinitions.kind(), Tasks.kind(),
		Services.kind(), ServiceRevisions.kind(), Deployments.kind(), ServiceEvents.kind(),
		LoadBalancers.kind(), Listeners.kind(), Rules.kind(), TargetGroups.kind(), Targets.kind(), TargetHealths.kind(),
		TargetViews.kind(),
		CapacityProviders.kind(),
		DiscoveryNamespaces.kind(), DiscoveryServices.kind(), DiscoveryInstances.kind(), DiscoveryRevisions.kind(), DiscoveryOperations.kind(),
		IAMUsers.kind(), IAMGroups.kind(), IAMRoles.kind(), IAMPolicies.kind(), AccessKeys.kind(), InstanceProfiles.kind(), OIDCProviders.kind(), IAMAccounts.kind(),
		Repositories.kind(), Images.kind(), ImageTags.kind(), RepositoryBlobs.kind(),
		RegistrySettings.kind(), PullThroughRules.kind(), CreationTemplates.kind(), Replications.kind(), Backfills.kind(), SealedBlobs.kind(),
		MasterKeys.kind(), KMSKeys.kind(), KMSAliases.kind(),
		VPCs.kind(), Subnets.kind(), RouteTables.kind(), InternetGateways.kind(), NATGateways.kind(), Addresses.kind(), NetworkACLs.kind(), DHCPOptions.kind(), SecurityGroups.kind(),
		Parameters.kind(), ParameterVersions.kind(), Secrets.kind(), SecretVersions.kind(), S3Buckets.kind(), S3Objects.kind(),
	}...)
}

// The values of ByState.
const (
	TaskPending = "pending"
	TaskLive    = "live"
	TaskEnded   = "ended"
)

func serviceOf(t *model.Task) string {
	if t.Service == "" {
		return ""
	}
	return t.Cluster + "/" + t.Service
}

func taskState(t *model.Task) string {
	switch {
	case t.Ended():
		return TaskEnded
	case t.NodeID == "":
		return TaskPending
	}
	return TaskLive
}

func table[T any, P interface {
	*T
	Keyed
}](name string, indexes ...Index) Table[T, P] {
	return Table[T, P]{name: name, indexes: indexes}
}

func by[T any](name string, value func(*T) string) Index {
	return Index{Name: name, Value: func(row any) string { return value(row.(*T)) }}
}

func (t Table[T, P]) kind() Kind {
	return Kind{Name: t.name, Indexes: t.indexes, Part: t.part, Decode: func(b []byte) (any, error) {
		v := P(new(T))
		if err := model.DecodeJSON(b, v); err != nil {
			return nil, err
		}
		return v, nil
	}}
}

// apart stores a part of the table's rows for itself. Rows stored before stay readable.
func (t Table[T, P]) apart(part *Part) Table[T, P] {
	t.part = part
	return t
}
