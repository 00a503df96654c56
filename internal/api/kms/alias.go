package kms

import (
	"context"
	"regexp"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/keys"
	"github.com/berthdev/berth/internal/store"
)

var aliasPattern = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)

// checkAlias refuses what is no name for a customer's alias.
func checkAlias(name *string) error {
	if err := required("aliasName", name); err != nil {
		return err
	}
	switch {
	case !strings.HasPrefix(*name, "alias/"):
		return invalid("Invalid identifier")
	case strings.HasPrefix(*name, "alias/aws/"):
		return model.Errorf("NotAuthorizedException", "Aliases that begin with alias/aws/ are those of AWS managed keys")
	case !aliasPattern.MatchString(*name):
		return invalid("1 validation error detected: Value '%.300s' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression "+
			"pattern: ^[a-zA-Z0-9:/_-]+$", *name)
	}
	return nil
}

// target is the key that an alias is to stand for, by id or ARN.
func (a *api) target(tx store.Reader, id *string) (*model.KMSKey, error) {
	if err := required("targetKeyId", id); err != nil {
		return nil, err
	}
	if strings.Contains(*id, "alias/") {
		return nil, invalid("Aliases must refer to keys. Not aliases")
	}
	k, err := a.Ring.Find(tx, *id)
	if err == nil && keys.StateOf(k) == keys.PendingDeletion {
		err = a.Ring.Usable(k)
	}
	return k, err
}

func (a *api) createAlias(ctx context.Context, in *sdk.CreateAliasInput) (*sdk.CreateAliasOutput, error) {
	if err := checkAlias(in.AliasName); err != nil {
		return nil, err
	}
	return &sdk.CreateAliasOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		k, err := a.target(tx, in.TargetKeyId)
		if err != nil {
			return err
		}
		if _, ok := store.KMSAliases.Get(tx, *in.AliasName); ok {
			return model.Errorf("AlreadyExistsException", "An alias with the name %s already exists", a.Ring.AliasARN(*in.AliasName))
		}
		now := a.Now()
		store.KMSAliases.Put(tx, &model.KMSAlias{Name: *in.AliasName, KeyID: k.ID, CreatedAt: now, UpdatedAt: now})
		return nil
	})
}

func (a *api) updateAlias(ctx context.Context, in *sdk.UpdateAliasInput) (*sdk.UpdateAliasOutput, error) {
	if err := checkAlias(in.AliasName); err != nil {
		return nil, err
	}
	return &sdk.UpdateAliasOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		old, ok := store.KMSAliases.Get(tx, *in.AliasName)
		if !ok {
			return a.noAlias(*in.AliasName)
		}
		k, err := a.target(tx, in.TargetKeyId)
		if err != nil {
			return err
		}
		next := *old
		next.KeyID, next.UpdatedAt = k.ID, a.Now()
		store.KMSAliases.Put(tx, &next)
		return nil
	})
}

func (a *api) noAlias(name string) error {
	return model.Errorf("NotFoundException", "Alias %s is not found.", a.Ring.AliasARN(name))
}

func (a *api) deleteAlias(ctx context.Context, in *sdk.DeleteAliasInput) (*sdk.DeleteAliasOutput, error) {
	if err := checkAlias(in.AliasName); err != nil {
		return nil, err
	}
	return &sdk.DeleteAliasOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.KMSAliases.Get(tx, *in.AliasName); !ok {
			return a.noAlias(*in.AliasName)
		}
		store.KMSAliases.Delete(tx, *in.AliasName)
		return nil
	})
}

func (a *api) listAliases(ctx context.Context, in *sdk.ListAliasesInput) (*sdk.ListAliasesOutput, error) {
	id := ""
	if in.KeyId != nil {
		k, err := a.find(ctx, in.KeyId)
		if err != nil {
			return nil, err
		}
		id = k.ID
	}
	all := []types.AliasListEntry{}
	a.Store.View(func(tx store.Reader) {
		for al := range store.KMSAliases.Scan(tx, "") {
			if id == "" || al.KeyID == id {
				all = append(all, types.AliasListEntry{AliasName: &al.Name, AliasArn: new(a.Ring.AliasARN(al.Name)), TargetKeyId: &al.KeyID,
					CreationDate: &al.CreatedAt, LastUpdatedDate: &al.UpdatedAt})
			}
		}
	})
	out := &sdk.ListAliasesOutput{}
	var err error
	out.Aliases, out.NextMarker, out.Truncated, err = page(all, in.Limit, in.Marker, 50, func(e types.AliasListEntry) string { return *e.AliasName })
	return out, err
}
