package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/test/machines"
)

// fleet is three machines and where its programs are.
type fleet struct {
	root, bin string
	servers   int
	out       io.Writer
	lab       *machines.Lab
}

// shopPort is the load balancer's.
const shopPort = "8080"

func (f *fleet) say(format string, args ...any) { fmt.Fprintf(f.out, format+"\n", args...) }

// up makes the machines, the cluster and the shop.
func (f *fleet) up(ctx context.Context, dir string) (err error) {
	if f.lab, err = machines.Open(dir); err == nil {
		for _, m := range f.lab.Machines() {
			if err := m.On(); err != nil {
				return err
			}
		}
	} else if err := f.make(ctx, dir); err != nil {
		return err
	}
	if err := f.shop(ctx); err != nil {
		return errors.Join(err, f.lab.Leave())
	}
	f.say(`
The shop is open:      http://%s:%s
A shell on a machine:  bin/fleet sh n1        then, say: aws ecs list-tasks --cluster shop
A machine dies:        bin/fleet off n2       and back: bin/fleet on n2
The machines:          bin/fleet sh n1 %s node ls
End it with:           make fleet-down`, f.first().Address, shopPort, f.bin)
	return f.lab.Leave()
}

func (f *fleet) first() *machines.Machine { return f.lab.Machines()[0] }

// make makes three machines and a cluster of them.
func (f *fleet) make(ctx context.Context, dir string) (err error) {
	if f.lab, err = machines.New(machines.Config{Dir: dir, Uplink: true, Keep: true}); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.lab.Close())
		}
	}()
	for _, name := range []string{"n1", "n2", "n3"} {
		m, err := f.lab.Add(name, "")
		if err == nil {
			err = m.On()
		}
		if err != nil {
			return err
		}
		f.say("%s has power: %s", name, m.Address)
	}
	one := f.first()
	if err := f.start(ctx, one, "up", "--listen", "0.0.0.0:4566", "--advertise", one.Address.String()); err != nil {
		return err
	}
	for i, m := range f.lab.Machines()[1:] {
		if err := f.join(ctx, m, i+1 < f.servers); err != nil {
			return err
		}
	}
	return nil
}

// join has a machine join the first one's cluster with a token, as a server and node or as a node.
func (f *fleet) join(ctx context.Context, m *machines.Machine, server bool) error {
	role, args := "node", []string{"node", "--zone", string('a' + rune(m.Index-1))}
	if server {
		role, args = "server", []string{"up", "--listen", "0.0.0.0:4566", "--advertise", m.Address.String()}
	}
	text, err := f.first().Command(ctx, f.bin, "token", role).Output()
	if err != nil {
		return err
	}
	url := ""
	for _, word := range strings.Fields(text) {
		if strings.HasPrefix(word, "berth://") {
			url = word
		}
	}
	f.say("n1$ berth token %s\n%s", role, strings.TrimSpace(text))
	if err := f.start(ctx, m, append(args, "--join", url)...); err != nil {
		return err
	}
	// From its next boot on it is one of the cluster without a token.
	return m.Install(machines.Service{Name: "berth", Args: append([]string{f.bin}, args...), Restart: true})
}

// start has a machine run Berth from now on, and waits until the cluster has it.
func (f *fleet) start(ctx context.Context, m *machines.Machine, args ...string) error {
	f.say("%s$ berth %s", m.Name, strings.Join(args, " "))
	began := time.Now()
	if err := m.Install(machines.Service{Name: "berth", Args: append([]string{f.bin}, args...), Restart: true}); err != nil {
		return err
	}
	err := wait(ctx, 40*time.Second, func() error {
		all, err := f.nodes(ctx)
		if err == nil && !slices.ContainsFunc(all, func(n node) bool { return n.Host == m.Name && n.Agent }) {
			err = fmt.Errorf("%s is not in the cluster: %+v", m.Name, all)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w\nthe end of Berth's log on %s:\n%s", err, m.Name, m.Log("berth", 3000))
	}
	f.say("%s is in the cluster after %.1f s", m.Name, time.Since(began).Seconds())
	return nil
}

// wait asks until f finds no fault.
func wait(ctx context.Context, limit time.Duration, f func() error) error {
	for deadline := time.Now().Add(limit); ; {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// environ is what clients need, as `berth env` prints it.
func (f *fleet) environ(ctx context.Context) (env []string, err error) {
	out, err := f.first().Command(ctx, f.bin, "env").Output()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		env = append(env, strings.TrimPrefix(strings.TrimSpace(line), "export "))
	}
	return env, nil
}

// shop builds the shop's images into the cluster's registry and deploys it.
func (f *fleet) shop(ctx context.Context) error {
	env, err := f.environ(ctx)
	if err != nil {
		return err
	}
	for _, part := range []string{"storefront", "auth", "inventory", "payment"} {
		f.say("n1$ berth build -t shop/%s …", part)
		_, err := f.first().Command(ctx, f.bin, "build", "--progress", "plain", "-t", "shop/"+part, "-f",
			filepath.Join(f.root, "examples/shop", part, "Dockerfile"), filepath.Join(f.root, "bin/shop")).Output()
		if err != nil {
			return err
		}
	}
	f.say("n1$ shop-deploy -port %s", shopPort)
	c := f.first().Command(ctx, filepath.Join(f.root, "bin/shop-deploy"), "-port", shopPort)
	c.Env = append(c.Env, env...)
	c.Stderr = os.Stderr
	return c.Run()
}
