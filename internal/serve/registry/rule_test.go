package registry_test

import (
	"context"
	"errors"
	"testing"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
)

func TestWhatMayNotBeRunIsPulledAllTheSame(t *testing.T) {
	f := setup(t, "app")
	push(t, f, "app:v1")
	f.configure = func(c *registry.Config) {
		c.MayRun = func(_ context.Context, img *model.Image) error { return errors.New("a rule refuses " + img.Repository) }
	}
	f.open()
	f.want(f.do("GET", "/v2/app/manifests/v1", nil), 200, "")
	f.want(f.do("GET", "/v2/app/manifests/v1", nil, model.HeaderRuns, "1"), 403, "a rule refuses app")
	if got := f.do("HEAD", "/v2/app/manifests/v1", nil, model.HeaderRuns, "1").Header.Get(model.HeaderRefused); got != "a rule refuses app" {
		t.Errorf("the reason is %q", got)
	}
	f.want(f.do("GET", "/v2/app/manifests/none", nil, model.HeaderRuns, "1"), 404, "MANIFEST_UNKNOWN")
}
