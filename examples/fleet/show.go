package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/test/machines"
)

// node is what of `berth node ls --json` is needed here.
type node struct {
	Host, State string
	Agent       bool
	Tasks       int
}

func (f *fleet) nodes(ctx context.Context) ([]node, error) {
	out, err := f.first().Command(ctx, f.bin, "node", "ls", "--json").Output()
	if err != nil {
		return nil, err
	}
	var r struct{ Nodes []node }
	return r.Nodes, json.Unmarshal([]byte(out), &r)
}

// list prints a command and what it prints on the first machine.
func (f *fleet) list(ctx context.Context, args ...string) error {
	f.say("\nn1$ berth %s", strings.Join(args, " "))
	c := f.first().Command(ctx, f.bin, args...)
	c.Stdout, c.Stderr = f.out, os.Stderr
	return c.Run()
}

// show cuts the power of the machine with most tasks, the first one left out, while the shop is asked twenty times a second.
func (f *fleet) show(ctx context.Context) error {
	before, err := f.nodes(ctx)
	if err != nil {
		return err
	}
	before = slices.DeleteFunc(before, func(n node) bool { return n.Host == f.first().Name || !n.Agent })
	if len(before) == 0 {
		return fmt.Errorf("no machine but %s is in the cluster; bin/fleet on n2 gives one power", f.first().Name)
	}
	slices.SortFunc(before, func(a, b node) int { return b.Tasks - a.Tasks })
	victim, err := f.lab.Machine(before[0].Host)
	if err != nil {
		return err
	}
	if err := f.list(ctx, "node", "ls"); err != nil {
		return err
	}
	t := f.traffic(ctx)
	f.say("\n%s runs %d tasks. Its power is cut now.", victim.Name, before[0].Tasks)
	cut := time.Now()
	if err := victim.Off(); err != nil {
		return err
	}
	err = f.follow(ctx, victim, cut)
	asked, failed, last := t.stop()
	if err != nil {
		return err
	}
	f.say("The shop was asked %d times meanwhile; %d answers failed, the last one %.1f s after the cut.", asked, failed, max(last.Sub(cut).Seconds(), 0))
	if err := f.list(ctx, "node", "ls"); err != nil {
		return err
	}
	f.say("\n%s gets its power back.", victim.Name)
	if err := victim.On(); err != nil {
		return err
	}
	back := time.Now()
	err = wait(ctx, time.Minute, func() error {
		all, err := f.nodes(ctx)
		if err == nil && !slices.ContainsFunc(all, func(n node) bool { return n.Host == victim.Name && n.Agent }) {
			err = fmt.Errorf("%s is not back", victim.Name)
		}
		return err
	})
	if err != nil {
		return err
	}
	f.say("It is back in the cluster after %.1f s.", time.Since(back).Seconds())
	return f.list(ctx, "status")
}

// follow waits until the cluster runs elsewhere what the victim ran.
func (f *fleet) follow(ctx context.Context, victim *machines.Machine, cut time.Time) error {
	noticed := false
	return wait(ctx, 2*time.Minute, func() error {
		all, err := f.nodes(ctx)
		if err != nil {
			return err
		}
		for _, n := range all {
			if n.Host != victim.Name {
				continue
			}
			if !noticed && n.State == "LOST" {
				noticed = true
				f.say("%5.1f s  %s is held for dead", time.Since(cut).Seconds(), victim.Name)
			}
			if n.Tasks > 0 {
				return fmt.Errorf("%d tasks of %s are not replaced", n.Tasks, victim.Name)
			}
		}
		f.say("%5.1f s  its tasks run elsewhere", time.Since(cut).Seconds())
		return nil
	})
}

// traffic asks the shop until it is stopped.
type traffic struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu            sync.Mutex
	asked, failed int
	last          time.Time // failure
}

func (f *fleet) traffic(ctx context.Context) *traffic {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{cancel: cancel}
	url := fmt.Sprintf("http://%s:%s/payment/whoami", f.first().Address, shopPort)
	client := &http.Client{Timeout: 2 * time.Second}
	t.done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			t.done.Go(func() { t.ask(client, url) })
		}
	})
	return t
}

func (t *traffic) ask(client *http.Client, url string) {
	res, err := client.Get(url)
	ok := err == nil && res.StatusCode == http.StatusOK
	if err == nil {
		res.Body.Close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asked++; !ok {
		t.failed++
		t.last = time.Now()
	}
}

func (t *traffic) stop() (asked, failed int, last time.Time) {
	t.cancel()
	t.done.Wait()
	return t.asked, t.failed, t.last
}
