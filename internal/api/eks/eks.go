// Package eks is Amazon EKS as far as Berth has it: every operation is known by name and refused as not supported yet. Clients that
// ask for clusters are told so in the protocol that they speak.
package eks

import (
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/schemas"
	smithy "github.com/aws/smithy-go"

	"github.com/berthdev/berth/internal/api/wire"
)

// modelled is every operation of EKS in the SDK's model.
var modelled = []*smithy.Schema{
	schemas.ActivateCertificateAuthority, schemas.AssociateAccessPolicy, schemas.AssociateEncryptionConfig,
	schemas.AssociateIdentityProviderConfig, schemas.CancelUpdate, schemas.CreateAccessEntry, schemas.CreateAddon,
	schemas.CreateCapability, schemas.CreateCertificateAuthority, schemas.CreateCluster, schemas.CreateEksAnywhereSubscription,
	schemas.CreateFargateProfile, schemas.CreateNodegroup, schemas.CreatePodIdentityAssociation, schemas.DeleteAccessEntry,
	schemas.DeleteAddon, schemas.DeleteCapability, schemas.DeleteCertificateAuthority, schemas.DeleteCluster,
	schemas.DeleteEksAnywhereSubscription, schemas.DeleteFargateProfile, schemas.DeleteNodegroup,
	schemas.DeletePodIdentityAssociation, schemas.DeregisterCluster, schemas.DescribeAccessEntry, schemas.DescribeAddon,
	schemas.DescribeAddonConfiguration, schemas.DescribeAddonVersions, schemas.DescribeCapability,
	schemas.DescribeCertificateAuthority, schemas.DescribeCluster, schemas.DescribeClusterVersions,
	schemas.DescribeEksAnywhereSubscription, schemas.DescribeFargateProfile, schemas.DescribeIdentityProviderConfig,
	schemas.DescribeInsight, schemas.DescribeInsightsRefresh, schemas.DescribeNodegroup,
	schemas.DescribePodIdentityAssociation, schemas.DescribeUpdate, schemas.DisassociateAccessPolicy,
	schemas.DisassociateIdentityProviderConfig, schemas.ListAccessEntries, schemas.ListAccessPolicies, schemas.ListAddons,
	schemas.ListAssociatedAccessPolicies, schemas.ListCapabilities, schemas.ListCertificateAuthorities, schemas.ListClusters,
	schemas.ListEksAnywhereSubscriptions, schemas.ListFargateProfiles, schemas.ListIdentityProviderConfigs,
	schemas.ListInsights, schemas.ListNodegroups, schemas.ListPodIdentityAssociations, schemas.ListTagsForResource,
	schemas.ListUpdates, schemas.RegisterCluster, schemas.StartInsightsRefresh, schemas.TagResource, schemas.UntagResource,
	schemas.UpdateAccessEntry, schemas.UpdateAddon, schemas.UpdateCapability, schemas.UpdateClusterConfig,
	schemas.UpdateClusterVersion, schemas.UpdateEksAnywhereSubscription, schemas.UpdateNodegroupConfig,
	schemas.UpdateNodegroupVersion, schemas.UpdatePodIdentityAssociation,
}

// New makes the service.
func New() *wire.Service {
	return &wire.Service{Name: "eks", Protocol: wire.RESTJSON, Types: eks.TypeRegistry, Routes: modelled}
}
