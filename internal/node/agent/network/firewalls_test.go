package network_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/node/agent"
)

// wall is a firewall that people have. The scripts run in the root file system that BERTH_FIREWALLS names and in the test's network; start
// goes on until it is killed, or ends when nothing has to.
type wall struct {
	start, ready, reload, stop string
	drops                      string // fails unless the firewall drops what nobody forwards
	forwards                   bool   // it has the machine forward between others itself
}

var walls = map[string]wall{
	"ufw": {start: "ufw --force enable", reload: "ufw reload", stop: "ufw --force disable",
		drops: "nft list chain ip filter FORWARD | grep 'policy drop' && nft list chain ip filter INPUT | grep 'policy drop'"},
	"firewalld": {
		start: "mkdir -p /run/dbus; rm -f /run/dbus/pid; dbus-daemon --system --nofork & while ! test -S /run/dbus/system_bus_socket; do sleep 0.1; done; " +
			"exec firewalld --nofork --nopid",
		ready: "firewall-cmd --state", reload: "firewall-cmd --reload", drops: "nft list chain inet firewalld filter_FORWARD | grep reject"},
	"docker": {
		start: "rm -rf /run/dk; mkdir -p /run/dk; exec dockerd --data-root /run/dk/data --exec-root /run/dk/exec --pidfile /run/dk/pid " +
			"-H unix:///run/dk/sock --storage-driver vfs",
		ready: "DOCKER_HOST=unix:///run/dk/sock docker version", reload: "iptables -F FORWARD; kill -HUP $(cat /run/dk/pid)", forwards: true,
		drops: "nft list chain ip filter FORWARD | grep 'policy drop'"},
}

// TestRealFirewalls is run by make test-firewalls, which installs them aside: ufw, firewalld and Docker start before Berth and after it,
// are reloaded and end, and tasks reach the network all the time, within seconds; the machine becomes a router by none of it.
func TestRealFirewalls(t *testing.T) {
	root := os.Getenv("BERTH_FIREWALLS")
	if root == "" {
		t.Skip("needs BERTH_FIREWALLS: make test-firewalls")
	}
	for name, w := range walls {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, before Berth %v", name, before), func(t *testing.T) {
				left, right := machine(t)
				serve(t, right, ":80")
				end := func() {}
				if before {
					end = w.begin(t, root)
				}
				n, _ := openHere(t)
				serve(t, fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), n.Gateway().String()+":"+strconv.Itoa(routerMetadata))
				task := setup(t, n, agent.NetworkSpec{ID: "task", Mode: types.NetworkModeBridge, Ports: []agent.PortMapping{{ContainerPort: 80}}})
				serve(t, task.NetnsPath, ":80")
				published := net.JoinHostPort("192.0.2.1", strconv.Itoa(int(task.Ports[0].HostPort)))
				reaches := func(when string) {
					t.Helper()
					var err, metadata, in error
					for until := time.Now().Add(15 * time.Second); time.Now().Before(until); {
						_, err = dialInside(t, task.NetnsPath, "198.51.100.2:80")
						_, metadata = dialInside(t, task.NetnsPath, "169.254.170.2:80")
						if _, in = dialInside(t, left, published); err == nil && metadata == nil && in == nil {
							break
						}
					}
					if err != nil || metadata != nil || in != nil {
						t.Errorf("%s: the network %v, metadata %v, from outside %v\n%s", when, err, metadata, in, w.run(root, "nft list ruleset"))
					}
					if w.forwards && before {
						return // the machine was a router when Berth came
					}
					if _, err := dialInside(t, left, "198.51.100.2:80"); err == nil {
						t.Errorf("%s: the machine is a router", when)
					}
				}
				if !before {
					reaches("without it")
					end = w.begin(t, root)
				}
				dropsNothing := w.forwards && !before // Docker drops where it has turned forwarding on itself
				if out := w.run(root, w.drops); strings.HasPrefix(out, "Error") && !dropsNothing {
					t.Errorf("it drops nothing, so that nothing is shown: %s\n%s", out, w.run(root, "nft list ruleset"))
				}
				reaches("with it")
				if out := w.run(root, w.reload); strings.Contains(out, "rror") {
					t.Errorf("reload: %s", out)
				}
				reaches("reloaded")
				end()
				reaches("without it again")
				if err := n.Destroy(t.Context()); err != nil {
					t.Error(err)
				}
				if out := w.run(root, "nft list ruleset"); strings.Contains(out, "brth-") || strings.Contains(out, "berth-") {
					t.Errorf("rules are left:\n%s", out)
				}
			})
		}
	}
}

// command is a script in the root file system, and in the network of the calling thread.
func (w wall) command(root, script string) *exec.Cmd {
	c := exec.Command("/bin/sh", "-c", script)
	c.Env, c.Dir = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, "/"
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Setpgid: true}
	return c
}

func (w wall) run(root, script string) string {
	out, err := w.command(root, script).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("Error: %v\n%s", err, out)
	}
	return string(out)
}

// begin starts it and waits until it has its rules; it ends at the test's end, or before, when what is returned is called.
func (w wall) begin(t *testing.T, root string) (end func()) {
	t.Helper()
	var said strings.Builder
	c := w.command(root, w.start)
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if w.ready == "" {
		if err := c.Wait(); err != nil {
			t.Fatalf("%v: %s", err, said.String())
		}
	} else {
		var out string
		for until := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) {
			if out = w.run(root, w.ready); !strings.HasPrefix(out, "Error") {
				break
			}
			if time.Now().After(until) {
				t.Fatalf("it is not ready: %s", out)
			}
		}
	}
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		if w.stop != "" {
			if out := w.run(root, w.stop); strings.HasPrefix(out, "Error") {
				t.Error(out)
			}
			return
		}
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGTERM)
		_ = c.Wait()
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // what it began
	}
	t.Cleanup(end)
	return end
}
