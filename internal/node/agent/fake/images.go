package fake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
)

// Images has every image but those whose script says otherwise.
type Images struct {
	faults
	cfg Config

	mu     sync.Mutex
	pulls  map[string]int
	logins map[string]model.RegistryLogin
}

// Pull implements agent.Images. An image's digest is made from its reference.
func (i *Images) Pull(ctx context.Context, ref string) (agent.Image, error) {
	i.mu.Lock()
	i.pulls[ref]++
	i.mu.Unlock()
	if err := i.take("Pull"); err != nil {
		return agent.Image{}, err
	}
	s := i.cfg.Script(ref, nil)
	if err := wait(ctx, s.PullFor); err != nil {
		return agent.Image{}, err
	}
	if s.PullError != "" {
		return agent.Image{}, &agent.Error{Name: "CannotPullContainerError", Message: s.PullError}
	}
	sum := sha256.Sum256([]byte(ref))
	return agent.Image{Ref: ref, Digest: "sha256:" + hex.EncodeToString(sum[:])}, nil
}

// PullAs implements agent.Images.
func (i *Images) PullAs(ctx context.Context, ref string, as model.RegistryLogin) (agent.Image, error) {
	i.mu.Lock()
	i.logins[ref] = as
	i.mu.Unlock()
	return i.Pull(ctx, ref)
}

// Login is with whose password ref was last pulled.
func (i *Images) Login(ref string) model.RegistryLogin {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.logins[ref]
}

// Pulls is how often ref was pulled.
func (i *Images) Pulls(ref string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.pulls[ref]
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
