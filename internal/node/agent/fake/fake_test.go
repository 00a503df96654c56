package fake

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/node/agent"
)

func TestScriptOf(t *testing.T) {
	for _, c := range []struct {
		ref     string
		command []string
		ends    bool
		code    int32
	}{
		{"nginx", nil, false, 0},
		{"registry:5000/team/exit:7", nil, true, 7},
		{"exit:many", nil, false, 0},
		{"job:0", nil, true, 0},
		{"nginx", []string{"exit", "3"}, true, 3},
		{"nginx", []string{"/bin/sh", "-c", "exit 4"}, true, 4},
		{"nginx", []string{"false"}, true, 1},
		{"nginx", []string{"nginx", "-g", "daemon off;"}, false, 0},
	} {
		if s := ScriptOf(c.ref, c.command); s.Ends != c.ends || s.ExitCode != c.code {
			t.Errorf("%s %v: %+v", c.ref, c.command, s)
		}
	}
}

func TestRuntimeIsIdempotent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{}).Runtime
		ctx := t.Context()
		spec := agent.ContainerSpec{ID: "1-a", TaskID: "1", Name: "a", Image: agent.Image{Ref: "slow-stop"}}
		for name, call := range map[string]func() error{
			"signal": func() error { return r.Signal(ctx, "none", syscall.SIGTERM) },
			"delete": func() error { return r.Delete(ctx, "none") },
		} {
			if err := call(); err != nil {
				t.Errorf("%s of a container that is not there: %v", name, err)
			}
		}
		for range 2 {
			if err := errors.Join(r.Create(ctx, spec), r.Start(ctx, spec.ID)); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if err := r.Signal(ctx, spec.ID, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if s := <-r.Exits(); s.ID != spec.ID || s.Status != agent.ContainerExited || s.ExitCode != 0 || time.Since(began) != 2*time.Second {
			t.Errorf("%+v after %s", s, time.Since(began))
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if _, open := <-r.Exits(); open {
			t.Error("Exits is open after Close")
		}
		if _, err := r.List(ctx); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

func TestNetworkGivesNothingTwice(t *testing.T) {
	n := New(Config{Subnet: netip.MustParsePrefix("10.1.0.0/29")}).Network // addresses .2 to .6
	ctx := context.Background()
	spec := func(id string) agent.NetworkSpec {
		return agent.NetworkSpec{ID: id, Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 80, Protocol: "tcp"}}}
	}
	seen := map[string]bool{}
	ports := map[int32]bool{}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		info, err := n.Setup(ctx, spec(id))
		if err != nil || seen[info.IPv4] || ports[info.Ports[0].HostPort] {
			t.Fatalf("%s: %+v %v", id, info, err)
		}
		again, err := n.Setup(ctx, spec(id))
		if err != nil || again.IPv4 != info.IPv4 || !slices.Equal(again.Ports, info.Ports) {
			t.Errorf("%s: %+v, then %+v", id, info, again)
		}
		seen[info.IPv4], ports[info.Ports[0].HostPort] = true, true
	}
	if _, err := n.Setup(ctx, spec("f")); err == nil {
		t.Error("an address beyond the subnet")
	}
	if err := n.Teardown(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Setup(ctx, spec("f")); err != nil {
		t.Errorf("a freed address is not given again: %v", err)
	}
}
