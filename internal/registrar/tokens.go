package registrar

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Terms are those of a new token.
type Terms struct {
	Life time.Duration // 0: the role's default
	Uses int           // how many machines may join with it; 0: the role's default, -1: any number
}

// defaults are those of machines.md §3; a laptop's access ends with its token.
var defaults = map[pki.Role]Terms{
	pki.RoleNode:   {timeouts.TokenNode, -1},
	pki.RoleServer: {timeouts.TokenServer, 1},
	pki.RoleClient: {timeouts.TokenClient, -1},
}

// NewToken makes a token and returns it, which nobody can do again, as what machines join by.
func (r *Registrar) NewToken(ctx context.Context, role pki.Role, terms Terms) (pki.JoinURL, *model.Token, error) {
	usual, ok := defaults[role]
	if !ok {
		return pki.JoinURL{}, nil, fmt.Errorf("there are no tokens for the role %q", role)
	}
	if terms.Life == 0 {
		terms.Life = usual.Life
	}
	if terms.Uses == 0 {
		terms.Uses = usual.Uses
	}
	if terms.Life < time.Minute || terms.Life > timeouts.TokenLongest {
		return pki.JoinURL{}, nil, fmt.Errorf("a token lives from 1m to %s, not %s", timeouts.TokenLongest, terms.Life)
	}
	token := pki.NewToken(role, r.Pin())
	now := r.Now()
	row := &model.Token{ID: token.ID, Role: string(role), Hash: token.Hash(), Pin: hex.EncodeToString(token.Pin[:]), CreatedAt: now,
		ExpiresAt: now.Add(terms.Life), MaxUses: max(terms.Uses, 0)}
	err := r.Store.Update(ctx, func(tx store.Tx) error {
		store.Tokens.Put(tx, row)
		return nil
	})
	if err != nil {
		return pki.JoinURL{}, nil, fmt.Errorf("keep the token: %w", err)
	}
	return pki.JoinURL{Addresses: r.Addresses(), Token: token}, row, nil
}

// Tokens lists what is kept of the tokens.
func (r *Registrar) Tokens() (all []*model.Token) {
	r.Store.View(func(v store.Reader) { all = slices.Collect(store.Tokens.Scan(v, "")) })
	return all
}

// RemoveToken makes a token useless, and ends the access of the laptops that came by it.
func (r *Registrar) RemoveToken(ctx context.Context, id string) error {
	return r.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.Tokens.Get(tx, id); !ok {
			return fmt.Errorf("there is no token %s; berth token ls shows those that there are", id)
		}
		store.Tokens.Delete(tx, id)
		return nil
	})
}

// sweep removes tokens that expired long ago: until then who uses one is told so.
func (r *Registrar) sweep(ctx context.Context) error {
	old := func(t *model.Token) bool { return r.Now().Sub(t.ExpiresAt) > timeouts.TokenKept }
	if !slices.ContainsFunc(r.Tokens(), old) {
		return nil
	}
	return r.Store.Update(ctx, func(tx store.Tx) error {
		for _, t := range slices.Collect(store.Tokens.Scan(tx, "")) {
			if old(t) {
				store.Tokens.Delete(tx, t.ID)
			}
		}
		return nil
	})
}

// good is the row of a token that may be used now by whoever has the secret. known: by a machine that has used it already.
func (r *Registrar) good(v store.Reader, id string, secret [16]byte, known bool) (*model.Token, error) {
	t, ok := store.Tokens.Get(v, id)
	if !ok {
		return nil, refuse("this cluster does not know the token %s: it was removed or expired long ago, or is another cluster's; make one on a server with: berth token node", id)
	}
	again := "make another on a server with: berth token " + t.Role
	switch now := r.Now(); {
	case !pki.SameHash(t.Hash, pki.SecretHash(secret)):
		return nil, refuse("the secret in token %s is wrong; %s", id, again)
	case !now.Before(t.ExpiresAt):
		return nil, refuse("the token %s expired %s ago; %s", id, now.Sub(t.ExpiresAt).Round(time.Second), again)
	case t.MaxUses > 0 && t.Uses >= t.MaxUses && !known:
		return nil, refuse("the token %s is used up (%d of %d); %s", id, t.Uses, t.MaxUses, again)
	}
	return t, nil
}
