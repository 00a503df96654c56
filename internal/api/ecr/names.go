package ecr

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
)

func digestOf(manifest string) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(manifest)))
}

// named turns a refusal of the registry into ECR's error of the same meaning.
func named(err error) error {
	if k, ok := errors.AsType[*registry.KMSError](err); ok {
		return &types.KmsException{Message: &k.Message, KmsError: &k.Code}
	}
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
