package vault

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// DefaultParameterKey is under what a SecureString is that names no key.
const DefaultParameterKey = "alias/aws/ssm"

// SecretReference is what the names of parameters begin with that are secrets of the Secrets Manager.
const SecretReference = "/aws/reference/secretsmanager/"

// ParameterName is what a request calls a parameter, taken apart.
type ParameterName struct {
	Path     string // without the first slash
	Selector string // with its colon: ":3", ":label", or ""
}

// ReadParameterName reads a name or an ARN, with a selector or without. An ARN of another account or region is none of ours.
func (v *Vault) ReadParameterName(text string) (ParameterName, error) {
	rest := text
	if strings.HasPrefix(text, "arn:") {
		var ok bool
		if rest, ok = strings.CutPrefix(text, v.Scope.ARN("ssm", "parameter/")); !ok {
			return ParameterName{}, notFound()
		}
	}
	path, selector, _ := strings.Cut(rest, ":")
	if selector != "" {
		selector = ":" + selector
	}
	return ParameterName{strings.TrimPrefix(path, "/"), selector}, nil
}

// ParameterARN is that of a parameter.
func (v *Vault) ParameterARN(path string) string { return v.Scope.ARN("ssm", "parameter/"+path) }

// notFound has no text with AWS.
func notFound() error { return &model.Error{Code: "ParameterNotFound"} }

// FindParameter reads the parameter that a name stands for, and of it the version that the selector selects.
func (v *Vault) FindParameter(r store.Reader, name ParameterName) (*model.Parameter, *model.ParameterVersion, error) {
	p, ok := store.Parameters.Get(r, name.Path)
	if !ok {
		return nil, nil, notFound()
	}
	number := p.Newest
	if selector := strings.TrimPrefix(name.Selector, ":"); selector != "" {
		if n, err := strconv.ParseInt(selector, 10, 64); err == nil {
			number = n
		} else if number, ok = p.Labels[selector]; !ok {
			return nil, nil, model.Errorf("ParameterVersionNotFound", "Systems Manager could not find label %s of %s. Verify the label and try again.",
				selector, p.Name)
		}
	}
	version, ok := store.ParameterVersions.Get(r, model.ParameterVersionKey(p.Path, number))
	if !ok {
		return nil, nil, NoParameterVersion(p.Name, number)
	}
	return p, version, nil
}

// NoParameterVersion is the refusal of a version that is not there.
func NoParameterVersion(name string, number int64) error {
	return model.Errorf("ParameterVersionNotFound", "Systems Manager could not find version %d of %s. Verify the version and try again.", number, name)
}

// sealedFor is what a parameter's value is bound to.
func (v *Vault) sealedFor(path string) map[string]string {
	return map[string]string{"PARAMETER_ARN": v.ParameterARN(path)}
}

// SealParameter puts a value into a version: as it is, or for a SecureString under its key.
func (v *Vault) SealParameter(ctx context.Context, to *model.ParameterVersion, value string) (err error) {
	if to.Type != types.ParameterTypeSecureString {
		to.Value = value
		return nil
	}
	to.Sealed, _, err = v.Ring.Encrypt(ctx, to.KeyID, []byte(value), v.sealedFor(to.Path))
	switch model.ErrorCode(err) {
	case "NotFoundException", "DisabledException", "KMSInvalidStateException":
		return model.Errorf("InvalidKeyId", "%s", err.(*model.Error).Message)
	}
	return err
}

// ParameterValue is a version's value; without plain, that of a SecureString is its ciphertext.
func (v *Vault) ParameterValue(ctx context.Context, of *model.ParameterVersion, plain bool) (string, error) {
	if of.Type != types.ParameterTypeSecureString {
		return of.Value, nil
	}
	if !plain {
		return base64.StdEncoding.EncodeToString(of.Sealed), nil
	}
	value, _, err := v.Ring.Decrypt(ctx, of.Sealed, v.sealedFor(of.Path))
	switch model.ErrorCode(err) {
	case "DisabledException", "KMSInvalidStateException", "InvalidCiphertextException":
		return "", model.Errorf("InvalidKeyId", "%s", err.(*model.Error).Message)
	}
	return string(value), err
}

// Read is one parameter as clients see it.
type Read struct {
	types.Parameter
	Secure *model.ParameterVersion // set when the value is a SecureString's
	Secret *model.Secret           // set when it is a secret of the Secrets Manager
}

// Parameter reads the parameter of that name: one of the store's, one of AWS's public ones, or a secret.
func (v *Vault) Parameter(ctx context.Context, text string, plain bool) (*Read, error) {
	if id, ok := strings.CutPrefix(text, SecretReference); ok {
		return v.reference(ctx, text, id, plain)
	}
	name, err := v.ReadParameterName(text)
	if err != nil {
		if p := v.PublicParameter(text); p != nil {
			return &Read{Parameter: *p}, nil
		}
		return nil, err
	}
	if p := v.PublicParameter("/" + name.Path); p != nil {
		return &Read{Parameter: *p}, nil
	}
	var p *model.Parameter
	var version *model.ParameterVersion
	v.Store.View(func(r store.Reader) { p, version, err = v.FindParameter(r, name) })
	if err != nil {
		return nil, err
	}
	value, err := v.ParameterValue(ctx, version, plain)
	if err != nil {
		return nil, err
	}
	out := &Read{Parameter: types.Parameter{ARN: new(v.ParameterARN(p.Path)), Name: &p.Name, DataType: &version.DataType, LastModifiedDate: &version.At,
		Type: version.Type, Value: &value, Version: version.Number}}
	if name.Selector != "" {
		out.Selector = &name.Selector
	}
	if version.Type == types.ParameterTypeSecureString {
		out.Secure = version
	}
	return out, nil
}

// reference reads a secret as a parameter, whose version is 0.
func (v *Vault) reference(ctx context.Context, text, id string, plain bool) (*Read, error) {
	if !plain {
		return nil, model.Errorf("ValidationException", "WithDecryption flag must be True for retrieving a Secret Manager secret.")
	}
	got, err := v.Secret(ctx, SecretQuery{ID: id})
	if err != nil {
		if e, ok := err.(*model.Error); ok {
			return nil, model.Errorf("ParameterNotFound", "An error occurred (%s) when referencing Secrets Manager: %s", e.Code, e.Message)
		}
		return nil, err
	}
	return &Read{Secret: got.Row, Parameter: types.Parameter{ARN: new(v.Scope.ARN("ssm", "parameter"+text)), Name: &text, DataType: new("text"),
		LastModifiedDate: &got.Version.CreatedAt, Type: types.ParameterTypeSecureString, Value: new(string(got.Value)),
		SourceResult: new(fmt.Sprintf(`{"ARN":%q,"name":%q,"versionId":%q}`, got.Row.ARN, got.Row.Name, got.Version.ID))}}, nil
}
