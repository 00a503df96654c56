package overlay

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/berthdev/berth/internal/model"
)

func TestKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "network", "key")
	a, err := LoadKey(file)
	must(t, err)
	b, err := LoadKey(file)
	if err != nil || a != b {
		t.Errorf("%s, then %s (%v)", a, b, err)
	}
	if _, err := PublicKey(a); err != nil {
		t.Error(err)
	}
	if _, err := PublicKey("no key"); err == nil {
		t.Error("what is no key is one")
	}
	why := map[string]string{}
	public, _ := PublicKey(a)
	if got := encryptable([]model.Peer{{Node: "a", Key: public}, {Node: "b"}}, why); len(got) != 1 || len(why) != 1 {
		t.Errorf("%v %v", got, why)
	}
}

// What was in clear is encrypted, and in clear again; tasks reach each other all the time but for a moment, and see true addresses.
func TestEncryption(t *testing.T) {
	r := newRig(t, 3, 1500)
	r.join()
	a, b, c := r.machines[0].task("a"), r.machines[1].task("b"), r.machines[2].task("c")
	reach := func(what string) {
		t.Helper()
		const much = 2 << 20
		for until := time.Now().Add(10 * time.Second); ; {
			got, err := fromTask(t, a, b.IPv4+":80", much)
			also, errC := fromTask(t, c, a.IPv4+":80", 1)
			if err == nil && errC == nil && got == fmt.Sprint(a.IPv4, " ", much) && also == c.IPv4+" 1" {
				break
			}
			if time.Now().After(until) {
				t.Fatalf("%s: %q %v, %q %v", what, got, err, also, errC)
			}
		}
		m := r.machines[0]
		m.do(func() {
			if got, err := ask(b.IPv4+":80", much); err != nil || got != fmt.Sprint(m.network.Gateway(), " ", much) {
				t.Errorf("%s: from a machine to a task of another: %q %v", what, got, err)
			}
		})
	}
	devices := func() (names string) {
		r.machines[0].do(func() {
			for _, name := range []string{deviceName(r.machines[0].id), tunnelName(r.machines[0].id)} {
				if _, err := netlink.LinkByName(name); err == nil {
					names += name[len(name)-1:]
				}
			}
		})
		return names
	}
	reach("in clear")
	r.encrypt()
	if got := devices(); got != "w" {
		t.Errorf("encrypted, the devices are %q", got)
	}
	reach("encrypted")
	m := r.machines[0]
	m.do(func() { // its device is removed
		l, err := netlink.LinkByName(tunnelName(m.id))
		must(t, err)
		must(t, netlink.LinkDel(l))
		for until := time.Now().Add(5 * time.Second); m.overlay.there() && time.Now().Before(until); {
			time.Sleep(10 * time.Millisecond)
		}
	})
	r.encrypt()
	reach("made anew")
	// A machine that leaves is not heard any more.
	m.do(func() {
		m.overlay.Set(Wanted{Self: m.peer, Peers: []model.Peer{r.machines[1].peer}, Encrypt: true})
		must(t, m.overlay.level(false))
	})
	if _, err := fromTask(t, c, a.IPv4+":80", 1); err == nil {
		t.Error("a machine that has left reaches a task")
	}
	r.join()
	reach("in clear again")
}
