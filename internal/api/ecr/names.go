package ecr

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
)

func digestOf(manifest string) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(manifest)))
}

// named turns a refusal of the registry into ECR's error of the same meaning.
func named(err error) error {
	e, ok := errors.AsType[*registry.Error](err)
	if !ok {
		return err
	}
	code := map[string]string{
		"MANIFEST_BLOB_UNKNOWN": "LayersNotFoundException",
		"TAG_INVALID":           "ImageTagAlreadyExistsException",
		"NAME_UNKNOWN":          "RepositoryNotFoundException",
	}[e.Code]
	if code == "" {
		code = "InvalidParameterException"
	}
	return model.Errorf(code, "%s", e.Message)
}

// modelled is every operation of ECR in the SDK's model; a test checks that it is whole.
var modelled = []string{
	"BatchCheckLayerAvailability", "BatchDeleteImage", "BatchGetImage", "BatchGetRepositoryScanningConfiguration",
	"CompleteLayerUpload", "CreatePullThroughCacheRule", "CreateRepository", "CreateRepositoryCreationTemplate",
	"DeleteLifecyclePolicy", "DeletePullThroughCacheRule", "DeleteRegistryPolicy", "DeleteRepository",
	"DeleteRepositoryCreationTemplate", "DeleteRepositoryPolicy", "DeleteSigningConfiguration",
	"DeregisterPullTimeUpdateExclusion", "DescribeImageReplicationStatus", "DescribeImageScanFindings",
	"DescribeImageSigningStatus", "DescribeImages", "DescribePullThroughCacheRules", "DescribeRegistry",
	"DescribeReplicationBackfillResults", "DescribeRepositories", "DescribeRepositoryCreationTemplates", "GetAccountSetting",
	"GetAuthorizationToken", "GetDownloadUrlForLayer", "GetLifecyclePolicy", "GetLifecyclePolicyPreview", "GetRegistryPolicy",
	"GetRegistryScanningConfiguration", "GetRepositoryPolicy", "GetSigningConfiguration", "InitiateLayerUpload",
	"ListImageReferrers", "ListImages", "ListPullTimeUpdateExclusions", "ListReplicationBackfills", "ListTagsForResource",
	"PutAccountSetting", "PutImage", "PutImageScanningConfiguration", "PutImageTagMutability", "PutLifecyclePolicy",
	"PutRegistryPolicy", "PutRegistryScanningConfiguration", "PutReplicationConfiguration", "PutSigningConfiguration",
	"RegisterPullTimeUpdateExclusion", "SetRepositoryPolicy", "StartImageScan", "StartLifecyclePolicyPreview",
	"StartReplicationBackfill", "StopReplicationBackfill", "TagResource", "UntagResource", "UpdateImageStorageClass",
	"UpdatePullThroughCacheRule", "UpdateRepositoryCreationTemplate", "UploadLayerPart", "ValidatePullThroughCacheRule",
}
