package handout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/berthdev/berth/internal/model"
)

// SecretRef is a valueFrom that means a secret: arn:aws:secretsmanager:R:A:secret:name-AbCdEf[:json-key:version-stage:version-id].
type SecretRef struct {
	ID      string // the ARN alone
	Region  string
	Key     string // of the JSON object that the secret is; "" for the whole
	Stage   string
	Version string
}

var errARN = errors.New("an invalid ARN format for the AWS Secrets Manager secret was specified. Specify a valid ARN and try again.")

func isSecret(from string) bool {
	parts := strings.SplitN(from, ":", 4)
	return len(parts) > 3 && parts[0] == "arn" && parts[2] == "secretsmanager"
}

// ParseSecretARN reads a valueFrom.
func ParseSecretARN(from string) (r SecretRef, err error) {
	parts := strings.Split(from, ":")
	if len(parts) != 7 && len(parts) != 10 || parts[0] != "arn" || parts[2] != "secretsmanager" || parts[5] != "secret" || parts[6] == "" {
		return r, errARN
	}
	r = SecretRef{ID: strings.Join(parts[:7], ":"), Region: parts[3]}
	if len(parts) == 10 {
		r.Key, r.Stage, r.Version = parts[7], parts[8], parts[9]
	}
	return r, nil
}

// regionOf is the region of an ARN, or the task's.
func (g *gatherer) regionOf(from string) string {
	if parts := strings.SplitN(from, ":", 5); len(parts) == 5 && parts[0] == "arn" && parts[3] != "" {
		return parts[3]
	}
	return g.Region
}

// secretValue is what a request for a secret was answered with.
type secretValue struct {
	SecretString *string
}

func (g *gatherer) secret(ctx context.Context, r SecretRef) (string, error) {
	text, err := g.secretText(ctx, r)
	if err != nil || r.Key == "" {
		return text, err
	}
	v, err := field(text, r.Key)
	if err != nil {
		return "", g.failed("unable to retrieve secret from asm: " + retried + err.Error())
	}
	return v, nil
}

// field is the value of a key of a JSON object: a string's text, and anything else as it is written.
func field(text, key string) (string, error) {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &object) != nil {
		return "", errors.New("retrieved secret from Secrets Manager is not a JSON object, of which the key " + key + " was asked for")
	}
	raw, ok := object[key]
	if !ok {
		return "", errors.New("retrieved secret from Secrets Manager did not contain json key " + key)
	}
	var s string
	if json.Unmarshal(raw, &s) == nil && !bytes.Equal(raw, []byte("null")) {
		return s, nil
	}
	return string(raw), nil
}

func (g *gatherer) secretText(ctx context.Context, r SecretRef) (string, error) {
	in := map[string]any{"SecretId": r.ID}
	if r.Stage != "" {
		in["VersionStage"] = r.Stage
	}
	if r.Version != "" {
		in["VersionId"] = r.Version
	}
	asked := r.ID + " " + r.Stage + " " + r.Version
	got, ok := g.secrets[asked]
	if !ok {
		if err := g.call(ctx, r.Region, "secretsmanager", "GetSecretValue", in, &got); err != nil {
			return "", g.noSecret(r.ID, r.Region, err)
		}
		g.secrets[asked] = got
	}
	if got.SecretString == nil {
		return "", g.failed("unable to retrieve secret from asm: " + retried + "secret " + r.ID + " is binary; containers are given strings only")
	}
	return *got.SecretString, nil
}

// login reads a registry's user and password: a secret by its ARN or, as with AWS, its name.
func (g *gatherer) login(ctx context.Context, id string) (*model.RegistryLogin, error) {
	ref := SecretRef{ID: id, Region: g.regionOf(id)}
	text, err := g.secretText(ctx, ref)
	if err != nil {
		return nil, err
	}
	l := &model.RegistryLogin{}
	if json.Unmarshal([]byte(text), l) != nil || l.Username == "" || l.Password == "" {
		return nil, g.failed("unable to get registry auth from asm: the secret " + id + ` must be a JSON object such as {"username":"…","password":"…"}`)
	}
	return l, nil
}
