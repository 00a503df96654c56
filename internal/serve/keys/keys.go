// Package keys is the ring of KMS keys that everything of Berth's encrypts under: parameters, secrets, images. A key is a row; its
// material is in it only under the master key (a file of 0600 that servers share, a passphrase, or what a command prints), and leaves this
// package never. A rotated key keeps its old materials for what they have encrypted.
package keys

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Config is what a Ring needs.
type Config struct {
	Store  store.Store // of the region
	Scope  model.Scope
	Master *Master
	Now    func() time.Time
}

// Ring is a region's keys.
type Ring struct {
	Config
	mu    sync.Mutex
	plain map[string][]byte // unwrapped materials, by <key>/<number>
}

// New makes a Ring.
func New(c Config) *Ring { return &Ring{Config: c, plain: map[string][]byte{}} }

// KeyInfo is what users of a key may know of it.
type KeyInfo struct {
	ID, ARN string
	// Service is whose key alias/aws/<service> is, "" for those of customers.
	Service string
	State   State
	Policy  string
}

// State is KMS's.
type State string

// The states.
const (
	Enabled         State = "Enabled"
	Disabled        State = "Disabled"
	PendingDeletion State = "PendingDeletion"
)

// StateOf is the state of a key.
func StateOf(k *model.KMSKey) State {
	switch {
	case !k.DeleteAt.IsZero():
		return PendingDeletion
	case k.Disabled:
		return Disabled
	}
	return Enabled
}

// Services are those whose keys alias/aws/<service> appear at first use.
var Services = []string{"acm", "backup", "dynamodb", "ebs", "ecr", "ecs", "elasticfilesystem", "events", "kinesis", "lambda", "logs", "rds", "s3",
	"secretsmanager", "sns", "sqs", "ssm"}

const managedPrefix = "alias/aws/"

// ARN is that of a key.
func (r *Ring) ARN(id string) string { return r.Scope.ARN("kms", "key/"+id) }

// AliasARN is that of an alias.
func (r *Ring) AliasARN(name string) string { return r.Scope.ARN("kms", name) }

// NotFound is the refusal of a key that does not exist.
func (r *Ring) NotFound(id string) error {
	return model.Errorf("NotFoundException", "Key '%s' does not exist", r.ARN(id))
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// name reads what a request calls a key: the id of a key, or the name of an alias.
func (r *Ring) name(text string) (id, alias string, err error) {
	invalid := model.Errorf("NotFoundException", "Invalid keyId '%.200s'", text)
	rest := text
	if strings.HasPrefix(text, "arn:") {
		var ok bool
		if rest, ok = strings.CutPrefix(text, r.Scope.ARN("kms", "")); !ok {
			return "", "", model.Errorf("NotFoundException", "Invalid arn %.200s", text)
		}
		if strings.HasPrefix(rest, "alias/") {
			return "", rest, nil
		}
		if id, ok = strings.CutPrefix(rest, "key/"); !ok {
			return "", "", model.Errorf("NotFoundException", "Invalid arn %.200s", text)
		}
		rest = id
	}
	switch {
	case strings.HasPrefix(rest, "alias/"):
		return "", rest, nil
	case idPattern.MatchString(rest):
		return rest, "", nil
	}
	return "", "", invalid
}

// Find reads the key that a request names: by id, ARN, alias or alias ARN.
func (r *Ring) Find(tx store.Reader, text string) (*model.KMSKey, error) {
	id, alias, err := r.name(text)
	if err != nil {
		return nil, err
	}
	if alias != "" {
		a, ok := store.KMSAliases.Get(tx, alias)
		if !ok {
			return nil, model.Errorf("NotFoundException", "Alias %s is not found.", r.AliasARN(alias))
		}
		id = a.KeyID
	}
	k, ok := store.KMSKeys.Get(tx, id)
	if !ok {
		return nil, r.NotFound(id)
	}
	return k, nil
}

// Lookup is Find in the newest state; an alias of AWS's is made with its key when it is first looked for.
func (r *Ring) Lookup(ctx context.Context, text string) (k *model.KMSKey, err error) {
	r.Store.View(func(tx store.Reader) { k, err = r.Find(tx, text) })
	if err == nil {
		return k, nil
	}
	_, alias, bad := r.name(text)
	service, managed := strings.CutPrefix(alias, managedPrefix)
	if bad != nil || !managed || !slices.Contains(Services, service) {
		return nil, err
	}
	made, err := r.Make(ctx, &model.KMSKey{Service: service, Policy: r.managedPolicy(service), RotateDays: 365,
		Description: "Default key that protects my " + service + " data when no other key is defined"})
	if err != nil {
		return nil, err
	}
	err = r.Store.Update(ctx, func(tx store.Tx) error {
		if k, err = r.Find(tx, alias); err == nil {
			return nil
		}
		now := r.Now()
		store.KMSAliases.Put(tx, &model.KMSAlias{Name: alias, KeyID: made.ID, CreatedAt: now, UpdatedAt: now})
		store.KMSKeys.Put(tx, made)
		k = made
		return nil
	})
	return k, err
}

// managedPolicy is the policy of a key of AWS's: the account's, by way of the service.
func (r *Ring) managedPolicy(service string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Id":"auto-%[1]s-1","Statement":[{"Sid":"Allow access through %[1]s for all principals in the account `+
		`that are authorized to use %[1]s","Effect":"Allow","Principal":{"AWS":"*"},"Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*",`+
		`"kms:GenerateDataKey*","kms:CreateGrant","kms:DescribeKey"],"Resource":"*","Condition":{"StringEquals":{"kms:CallerAccount":"%[2]s",`+
		`"kms:ViaService":"%[1]s.%[3]s.amazonaws.com"}}},{"Sid":"Allow direct access to key metadata to the account","Effect":"Allow",`+
		`"Principal":{"AWS":"arn:aws:iam::%[2]s:root"},"Action":["kms:Describe*","kms:Get*","kms:List*","kms:RevokeGrant"],"Resource":"*"}]}`,
		service, r.Scope.Account, r.Scope.Region)
}

// DefaultPolicy is that of a key that was given none: the account decides by its IAM policies.
func (r *Ring) DefaultPolicy() string {
	return fmt.Sprintf("{\n  \"Version\" : \"2012-10-17\",\n  \"Id\" : \"key-default-1\",\n  \"Statement\" : [ {\n    \"Sid\" : \"Enable IAM User Permissions\",\n"+
		"    \"Effect\" : \"Allow\",\n    \"Principal\" : {\n      \"AWS\" : \"arn:%s:iam::%s:root\"\n    },\n    \"Action\" : \"kms:*\",\n    \"Resource\" : \"*\"\n  } ]\n}",
		model.Partition, r.Scope.Account)
}

// Make fills in a new key's id and first material. It is not stored.
func (r *Ring) Make(ctx context.Context, k *model.KMSKey) (*model.KMSKey, error) {
	k.ID, k.CreatedAt = newID(), r.Now()
	if k.RotateDays > 0 {
		k.NextRotation = k.CreatedAt.AddDate(0, 0, k.RotateDays)
	}
	m, err := r.material(ctx, k.ID, 0)
	if err != nil {
		return nil, err
	}
	k.Materials = []model.KMSMaterial{m}
	return k, nil
}

// material makes the material of that number.
func (r *Ring) material(ctx context.Context, id string, number int) (m model.KMSMaterial, err error) {
	master, err := r.Master.wrapping(ctx)
	if err != nil {
		return m, err
	}
	m.At = r.Now()
	m.Sealed, err = wrap(master, random(32), r.materialName(id, number))
	return m, err
}

func (r *Ring) materialName(id string, number int) string {
	return fmt.Sprintf("%s/%d", r.ARN(id), number)
}

// Rotate gives a key new material.
func (r *Ring) Rotate(ctx context.Context, id string, asked bool) error {
	for {
		var number int
		r.Store.View(func(tx store.Reader) {
			if k, ok := store.KMSKeys.Get(tx, id); ok {
				number = len(k.Materials)
			}
		})
		m, err := r.material(ctx, id, number)
		if err != nil {
			return err
		}
		m.Asked = asked
		again := false
		err = r.Change(ctx, id, func(k *model.KMSKey) error {
			if again = len(k.Materials) != number; again {
				return nil
			}
			k.Materials = append(slices.Clone(k.Materials), m)
			if k.RotateDays > 0 && !asked {
				k.NextRotation = r.Now().AddDate(0, 0, k.RotateDays)
			}
			return nil
		})
		if err != nil || !again {
			return err
		}
	}
}

// Change changes the key that a request names.
func (r *Ring) Change(ctx context.Context, text string, f func(*model.KMSKey) error) error {
	return r.Store.Update(ctx, func(tx store.Tx) error {
		old, err := r.Find(tx, text)
		if err != nil {
			return err
		}
		k := *old
		if err := f(&k); err != nil {
			return err
		}
		store.KMSKeys.Put(tx, &k)
		return nil
	})
}

// Due does what is due: keys whose waiting time is over are deleted with their aliases, others rotated. The leader calls it. next is when
// it is to be called again at the latest; zero: when keys change.
func (r *Ring) Due(ctx context.Context) (deleted, rotated []string, next time.Time, err error) {
	now := r.Now()
	soonest := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	r.Store.View(func(tx store.Reader) {
		for k := range store.KMSKeys.Scan(tx, "") {
			switch {
			case !k.DeleteAt.IsZero() && !k.DeleteAt.After(now):
				deleted = append(deleted, k.ID)
			case !k.DeleteAt.IsZero():
				soonest(k.DeleteAt)
			case k.RotateDays > 0 && !k.NextRotation.After(now) && !k.Disabled:
				rotated = append(rotated, k.ID)
			case k.RotateDays > 0 && !k.Disabled:
				soonest(k.NextRotation)
			}
		}
	})
	for _, id := range deleted {
		if err := r.remove(ctx, id, now); err != nil {
			return nil, nil, next, err
		}
	}
	for _, id := range rotated {
		if err := r.Rotate(ctx, id, false); err != nil {
			return deleted, nil, next, err
		}
	}
	return deleted, rotated, next, nil
}

// remove deletes a key, unless its deletion was cancelled.
func (r *Ring) remove(ctx context.Context, id string, now time.Time) error {
	err := r.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		k, ok := store.KMSKeys.Get(tx, id)
		if !ok || k.DeleteAt.IsZero() || k.DeleteAt.After(now) {
			return nil
		}
		for _, a := range slices.Collect(store.KMSAliases.By(tx, store.ByTarget, id)) {
			store.KMSAliases.Delete(tx, a.Name)
		}
		store.KMSKeys.Delete(tx, id)
		return nil
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.plain {
		if strings.HasPrefix(name, r.ARN(id)+"/") {
			clear(r.plain[name])
			delete(r.plain, name)
		}
	}
	return err
}
