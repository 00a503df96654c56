package ssm

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/vault"
	"github.com/berthdev/berth/internal/store"
)

// The Parameter Store's limits.
const (
	maxStandard = 4 << 10 // bytes of a value
	maxAdvanced = 8 << 10
	maxVersions = 100
	maxLevels   = 15
	maxName     = 1011
)

var namePattern = regexp.MustCompile(`^/?[a-zA-Z0-9_.-]+(/[a-zA-Z0-9_.-]+)*$`)

// checkName refuses what cannot be the name of a new parameter.
func checkName(name *string) error {
	if err := required("name", name); err != nil {
		return err
	}
	lower := strings.ToLower(strings.TrimPrefix(*name, "/"))
	isPath := strings.Contains(lower, "/")
	switch {
	case strings.HasPrefix(lower, "aws/") && isPath:
		return model.Errorf("AccessDeniedException", "No access to reserved parameter name: %s.", *name)
	case (strings.HasPrefix(lower, "aws") || strings.HasPrefix(lower, "ssm")) && !isPath:
		return invalid(`Parameter name: can't be prefixed with "aws" or "ssm" (case-insensitive).`)
	case strings.HasPrefix(lower, "ssm/") || !namePattern.MatchString(*name) || len(*name) > maxName:
		return invalid(`Parameter name: can't be prefixed with "ssm" (case-insensitive). If formed as a path, it can consist of sub-paths divided by slash symbol; ` +
			`each sub-path can be formed as a mix of letters, numbers and the following 3 symbols .-_`)
	case isPath && !strings.HasPrefix(*name, "/"):
		return invalid("Parameter name must be a fully qualified name.")
	case strings.Count(lower, "/") >= maxLevels:
		return model.Errorf("HierarchyLevelLimitExceededException", "Hierarchy depth exceeds the allowed maximum: %d", maxLevels)
	}
	return nil
}

func (a *api) putParameter(ctx context.Context, in *sdk.PutParameterInput) (*sdk.PutParameterOutput, error) {
	if err := checkPut(in); err != nil {
		return nil, err
	}
	v := &model.ParameterVersion{Path: strings.TrimPrefix(*in.Name, "/"), Type: in.Type, Tier: in.Tier, DataType: value(in.DataType),
		Description: value(in.Description), AllowedPattern: value(in.AllowedPattern), KeyID: value(in.KeyId), At: a.Now(), User: wire.CallerFrom(ctx).ARN}
	// The type decides whether the value is encrypted, which happens before the transaction.
	var old *model.ParameterVersion
	a.Store.View(func(r store.Reader) { _, old, _ = a.Vault.FindParameter(r, vault.ParameterName{Path: v.Path}) })
	if err := a.settle(in, v, old); err != nil {
		return nil, err
	}
	if err := a.Vault.SealParameter(ctx, v, *in.Value); err != nil {
		return nil, err
	}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		p, now, _ := a.Vault.FindParameter(tx, vault.ParameterName{Path: v.Path})
		if now != nil && (old == nil || now.Type != v.Type) {
			return alreadyExists(in)
		}
		if now == nil {
			p = &model.Parameter{Path: v.Path, Name: *in.Name, Tags: in.Tags}
		}
		next := *p
		next.Newest++
		v.Number = next.Newest
		if err := dropOldest(tx, &next); err != nil {
			return err
		}
		store.Parameters.Put(tx, &next)
		store.ParameterVersions.Put(tx, v)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.PutParameterOutput{Version: v.Number, Tier: v.Tier}, nil
}

func alreadyExists(in *sdk.PutParameterInput) error {
	if value(in.Overwrite) {
		return model.Errorf("TooManyUpdates", "There are concurrent updates for a resource that supports one update at a time.")
	}
	return model.Errorf("ParameterAlreadyExists", "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.")
}

// checkPut checks what needs no parameter to compare with.
func checkPut(in *sdk.PutParameterInput) error {
	if err := checkName(in.Name); err != nil {
		return err
	}
	if err := required("value", in.Value); err != nil {
		return err
	}
	switch {
	case in.Type != "" && !slices.Contains(in.Type.Values(), in.Type):
		return invalid("1 validation error detected: Value '%.50s' at 'type' failed to satisfy constraint: Member must satisfy enum value set: "+
			"[SecureString, StringList, String]", in.Type)
	case in.Tier != "" && !slices.Contains(in.Tier.Values(), in.Tier):
		return invalid("1 validation error detected: Value '%.50s' at 'tier' failed to satisfy constraint: Member must satisfy enum value set: "+
			"[Advanced, Intelligent-Tiering, Standard]", in.Tier)
	case value(in.DataType) != "" && !slices.Contains([]string{"text", "aws:ec2:image", "aws:ssm:integration"}, *in.DataType):
		return invalid("The following data type is not supported: %.100s (Data type names are all lowercase.)", *in.DataType)
	case value(in.Policies) != "" && *in.Policies != "[]":
		return model.Errorf("InvalidPolicyTypeException", "Berth does not support parameter policies yet: leave Policies out")
	case value(in.Overwrite) && len(in.Tags) > 0:
		return invalid("Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please remove overwrite flag. " +
			"To update tags for an existing parameter, please use AddTagsToResource or RemoveTagsFromResource.")
	case utf8.RuneCountInString(value(in.Description)) > 1024:
		return invalid("1 validation error detected: Value at 'description' failed to satisfy constraint: Member must have length less than or equal to 1024")
	case value(in.KeyId) != "" && in.Type != types.ParameterTypeSecureString && in.Type != "":
		return invalid("KeyId is required for SecureString type parameter only.")
	}
	if pattern := value(in.AllowedPattern); pattern != "" {
		re, err := regexp.Compile(pattern)
		if err != nil || len(pattern) > 1024 {
			return model.Errorf("InvalidAllowedPatternException", "The regular expression %.100s is not valid", pattern)
		}
		re.Longest()
		if got := re.FindString(*in.Value); got != *in.Value {
			return model.Errorf("ParameterPatternMismatchException", "Parameter value, cannot be validated against allowedPattern: %s", pattern)
		}
	}
	return checkTags(in.Tags)
}

// settle fills in what the request leaves to the parameter as it was, or to the defaults.
func (a *api) settle(in *sdk.PutParameterInput, v, old *model.ParameterVersion) error {
	switch {
	case old != nil && !value(in.Overwrite):
		return alreadyExists(in)
	case old == nil && v.Type == "":
		return invalid("A parameter type is required when you create a parameter.")
	case old != nil && v.Type != "" && v.Type != old.Type:
		return model.Errorf("HierarchyTypeMismatchException", "Parameter Store does not support changing a parameter type in a hierarchy. For example, you can't "+
			"change a parameter from a String type to a SecureString type. You must create a new, unique parameter.")
	}
	if old != nil {
		v.Type = old.Type
		if v.DataType == "" {
			v.DataType = old.DataType
		}
		if v.KeyID == "" {
			v.KeyID = old.KeyID
		}
		if in.Description == nil {
			v.Description = old.Description
		}
		if v.Tier == "" {
			v.Tier = old.Tier
		}
	}
	if v.DataType == "" {
		v.DataType = "text"
	}
	if v.Type == types.ParameterTypeSecureString && v.KeyID == "" {
		v.KeyID = vault.DefaultParameterKey
	}
	return settleTier(len(*in.Value), v, old)
}

func settleTier(size int, v, old *model.ParameterVersion) error {
	switch v.Tier {
	case "":
		v.Tier = types.ParameterTierStandard
	case types.ParameterTierIntelligentTiering:
		v.Tier = types.ParameterTierStandard
		if size > maxStandard || old != nil && old.Tier == types.ParameterTierAdvanced {
			v.Tier = types.ParameterTierAdvanced
		}
	}
	switch {
	case old != nil && old.Tier == types.ParameterTierAdvanced && v.Tier == types.ParameterTierStandard:
		return invalid("This parameter uses the advanced-parameter tier. You can't downgrade a parameter from the advanced-parameter tier to the " +
			"standard-parameter tier. If necessary, you can delete the advanced parameter and recreate it as a standard parameter. Be aware that standard " +
			"parameters have a value limit of 4096 characters.")
	case v.Tier == types.ParameterTierStandard && size > maxStandard:
		return invalid("Standard tier parameters support a maximum parameter value of 4096 characters. To create a larger parameter value, upgrade the " +
			"parameter to use the advanced-parameter tier. For more information, see " +
			"https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html")
	case size > maxAdvanced:
		return invalid("Advanced tier parameters support a maximum parameter value of 8192 characters.")
	}
	return nil
}

// dropOldest makes room for one more version.
func dropOldest(tx store.Tx, p *model.Parameter) error {
	oldest := p.Newest - maxVersions
	if oldest < 1 {
		return nil
	}
	for _, number := range p.Labels {
		if number == oldest {
			return model.Errorf("ParameterMaxVersionLimitExceeded", "You attempted to create a new version of %s by calling the PutParameter API with the overwrite "+
				"flag. Version %d, the oldest version, can't be deleted because it has a label associated with it. Move the label to another version of the "+
				"parameter, and try again.", p.Name, oldest)
		}
	}
	store.ParameterVersions.Delete(tx, model.ParameterVersionKey(p.Path, oldest))
	return nil
}

// remove deletes a parameter and its versions.
func remove(tx store.Tx, path string) (ok bool) {
	p, ok := store.Parameters.Get(tx, path)
	if !ok {
		return false
	}
	for _, v := range slices.Collect(store.ParameterVersions.Scan(tx, p.Path+":")) {
		store.ParameterVersions.Delete(tx, v.Key())
	}
	store.Parameters.Delete(tx, p.Path)
	return true
}

func (a *api) deleteParameter(ctx context.Context, in *sdk.DeleteParameterInput) (*sdk.DeleteParameterOutput, error) {
	path, err := a.name(in.Name)
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteParameterOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		if !remove(tx, path) {
			return notFound()
		}
		return nil
	})
}

func (a *api) deleteParameters(ctx context.Context, in *sdk.DeleteParametersInput) (*sdk.DeleteParametersOutput, error) {
	if err := checkNames(in.Names); err != nil {
		return nil, err
	}
	var out *sdk.DeleteParametersOutput
	return out, a.Store.Update(ctx, func(tx store.Tx) error {
		out = &sdk.DeleteParametersOutput{}
		for _, name := range in.Names {
			if path, err := a.name(&name); err == nil && remove(tx, path) {
				out.DeletedParameters = append(out.DeletedParameters, name)
			} else {
				out.InvalidParameters = append(out.InvalidParameters, name)
			}
		}
		return nil
	})
}
