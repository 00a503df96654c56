package network_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/vishvananda/netlink"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/network"
)

// guarded is a network that enforces groups.
func guarded(t *testing.T, metadata uint16) (*network.Network, network.Config) {
	t.Helper()
	if os.Getenv("BERTH_INTEGRATION") != "1" || os.Getuid() != 0 {
		t.Skip("needs root and BERTH_INTEGRATION=1: it makes a bridge, namespaces and nftables tables")
	}
	c := network.Config{ID: fmt.Sprintf("e%05x", rand.IntN(1<<20)), RunDir: t.TempDir(), StateDir: t.TempDir(), MetadataPort: metadata,
		Groups: true, Log: slog.New(slog.DiscardHandler)}
	n, err := network.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n, c
}

func rule(egress bool, protocol string, port int32, cidr, group string) model.SecurityGroupRule {
	return model.SecurityGroupRule{Egress: egress, Protocol: protocol, From: port, To: port, CIDR: cidr, Group: group}
}

var allOut = rule(true, "-1", -1, "0.0.0.0/0", "")

// shop is a guard: web is reached by load balancers on 80, db by web on 5432, and evil may ask everybody.
func shop(db ...model.SecurityGroupRule) model.Guard {
	return model.Guard{Tasks: map[string]model.TaskGuard{"web": {Groups: []string{"sg-web"}}, "db": {Groups: []string{"sg-db"}}, "evil": {Groups: []string{"sg-evil"}}},
		Groups: map[string]model.Group{
			"sg-alb":  {ID: "sg-alb", Machines: true},
			"sg-web":  {ID: "sg-web", Rules: []model.SecurityGroupRule{rule(false, "tcp", 80, "", "sg-alb"), allOut}},
			"sg-db":   {ID: "sg-db", Rules: db},
			"sg-evil": {ID: "sg-evil", Rules: []model.SecurityGroupRule{allOut}},
		}}
}

var fromWeb = rule(false, "tcp", 5432, "", "sg-web")

// reaches tells whether a connection from the namespace ("" is the machine) is made soon.
func reaches(t *testing.T, path, address string, wait time.Duration) bool {
	t.Helper()
	var err error
	dial := func() error {
		var c net.Conn
		if c, err = net.DialTimeout("tcp4", address, wait); err == nil {
			c.Close()
		}
		return nil
	}
	if path == "" {
		dial()
	} else {
		inside(t, path, dial)
	}
	return err == nil
}

// echo answers each line on an address in the namespace.
func echo(t *testing.T, path, address string) {
	t.Helper()
	inside(t, path, func() error {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { io.Copy(c, c); c.Close() }()
			}
		}()
		return nil
	})
}

func awsvpc(t *testing.T, n *network.Network, id string) agent.NetworkInfo {
	return setup(t, n, agent.NetworkSpec{ID: id, TaskID: id, Mode: types.NetworkModeAwsvpc})
}

const soon = 300 * time.Millisecond

func TestSecurityGroupsHold(t *testing.T) {
	n, _ := guarded(t, 0)
	if err := n.SetGroups(shop(fromWeb)); err != nil {
		t.Fatal(err)
	}
	web, db, evil := awsvpc(t, n, "web"), awsvpc(t, n, "db"), awsvpc(t, n, "evil")
	bridge := setup(t, n, agent.NetworkSpec{ID: "c", TaskID: "c", Mode: types.NetworkModeBridge})
	for _, task := range []agent.NetworkInfo{web, db, evil} {
		for _, port := range []string{":80", ":81", ":5432"} {
			echo(t, task.NetnsPath, port)
		}
	}
	echo(t, bridge.NetnsPath, ":80")
	for _, c := range []struct {
		who, from, to string
		want          bool
	}{
		{"a load balancer", "", web.IPv4 + ":80", true},
		{"a load balancer at another port", "", web.IPv4 + ":81", false},
		{"a load balancer whose group is not named", "", db.IPv4 + ":5432", false},
		{"by group", web.NetnsPath, db.IPv4 + ":5432", true},
		{"by group, another port", web.NetnsPath, db.IPv4 + ":80", false},
		{"a hostile task", evil.NetnsPath, db.IPv4 + ":5432", false},
		{"a hostile task at the load balancer's port", evil.NetnsPath, web.IPv4 + ":80", false},
		{"without a rule for what goes out", db.NetnsPath, bridge.IPv4 + ":80", false},
		{"out to a task in bridge mode", evil.NetnsPath, bridge.IPv4 + ":80", true},
		{"a task in bridge mode, as its machine", bridge.NetnsPath, web.IPv4 + ":80", true},
		{"a task in bridge mode, elsewhere", bridge.NetnsPath, db.IPv4 + ":5432", false},
	} {
		if got := reaches(t, c.from, c.to, soon); got != c.want {
			t.Errorf("%s: reaches %s: %v", c.who, c.to, got)
		}
	}
	// A range lets in who is in it, and no other.
	if err := n.SetGroups(shop(fromWeb, rule(false, "tcp", 80, evil.IPv4+"/32", ""))); err != nil {
		t.Fatal(err)
	}
	if !reaches(t, evil.NetnsPath, db.IPv4+":80", soon) || reaches(t, web.NetnsPath, db.IPv4+":80", soon) {
		t.Error("a rule with a range does not hold")
	}
}

// TestARuleIsChangedUnderTraffic: what is taken away acts at once on new connections, and leaves those that were made.
func TestARuleIsChangedUnderTraffic(t *testing.T) {
	n, _ := guarded(t, 0)
	if err := n.SetGroups(shop(fromWeb)); err != nil {
		t.Fatal(err)
	}
	web, db := awsvpc(t, n, "web"), awsvpc(t, n, "db")
	echo(t, db.NetnsPath, ":5432")
	var conn net.Conn
	inside(t, web.NetnsPath, func() (err error) {
		conn, err = net.DialTimeout("tcp4", db.IPv4+":5432", time.Second)
		return err
	})
	defer conn.Close()
	lines := bufio.NewReader(conn)
	say := func(when string) {
		t.Helper()
		conn.SetDeadline(time.Now().Add(time.Second))
		fmt.Fprintln(conn, when)
		if got, err := lines.ReadString('\n'); err != nil || got != when+"\n" {
			t.Errorf("%s: the connection gave %q, %v", when, got, err)
		}
	}
	say("before")
	began := time.Now()
	if err := n.SetGroups(shop()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("a rule took %s to go", took)
	}
	if reaches(t, web.NetnsPath, db.IPv4+":5432", soon) {
		t.Error("a new connection passes without a rule")
	}
	say("without the rule")
	if err := n.SetGroups(shop(fromWeb)); err != nil {
		t.Fatal(err)
	}
	if !reaches(t, web.NetnsPath, db.IPv4+":5432", soon) {
		t.Error("a rule that is back does not hold")
	}
	for i := range 50 { // neither do tasks that come and go disturb it
		id := fmt.Sprint("evil", i%5)
		awsvpcOf(t, n, id, "evil")
		if i%10 == 0 {
			say(id)
		}
		if err := n.Teardown(context.Background(), id); err != nil {
			t.Fatal(err)
		}
	}
	say("after")
}

func awsvpcOf(t *testing.T, n *network.Network, id, task string) agent.NetworkInfo {
	return setup(t, n, agent.NetworkSpec{ID: id, TaskID: task, Mode: types.NetworkModeAwsvpc})
}

// TestNobodyPassesForAMember: a task that takes a member's address is not let in by it.
func TestNobodyPassesForAMember(t *testing.T) {
	n, _ := guarded(t, 0)
	if err := n.SetGroups(shop(fromWeb)); err != nil {
		t.Fatal(err)
	}
	web, db, evil := awsvpc(t, n, "web"), awsvpc(t, n, "db"), awsvpc(t, n, "evil")
	echo(t, db.NetnsPath, ":5432")
	for _, claimed := range []string{web.IPv4, n.Gateway().String()} {
		inside(t, evil.NetnsPath, func() error {
			lo, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			a, _ := netlink.ParseAddr(claimed + "/32")
			return netlink.AddrAdd(lo, a)
		})
		inside(t, evil.NetnsPath, func() error {
			d := net.Dialer{Timeout: soon, LocalAddr: &net.TCPAddr{IP: net.ParseIP(claimed)}}
			if c, err := d.Dial("tcp4", db.IPv4+":5432"); err == nil {
				c.Close()
				t.Errorf("a task passed for %s", claimed)
			}
			return nil
		})
	}
	if !reaches(t, web.NetnsPath, db.IPv4+":5432", soon) {
		t.Error("the real one is kept out")
	}
}

// TestTheMachinesOwnServices: a task that may reach nobody has names and its metadata still, and nothing else of its machine.
func TestTheMachinesOwnServices(t *testing.T) {
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	n, _ := guarded(t, port)
	if err := n.SetGroups(shop()); err != nil {
		t.Fatal(err)
	}
	db, evil := awsvpc(t, n, "db"), awsvpc(t, n, "evil")
	if !reaches(t, db.NetnsPath, "169.254.170.2:80", soon) {
		t.Error("a task without rules has no metadata")
	}
	forbidden := fmt.Sprintf("%s:%d", n.Gateway(), other.Addr().(*net.TCPAddr).Port)
	if reaches(t, db.NetnsPath, forbidden, soon) {
		t.Error("a task without rules reaches its machine")
	}
	if !reaches(t, evil.NetnsPath, forbidden, soon) {
		t.Error("a task that may reach all does not reach its machine")
	}
	packets, err := net.ListenPacket("udp4", n.Gateway().String()+":53")
	if err != nil {
		t.Skip("port 53 is another program's")
	}
	defer packets.Close()
	inside(t, db.NetnsPath, func() error {
		c, err := net.Dial("udp4", n.Gateway().String()+":53")
		if err == nil {
			_, err = c.Write([]byte("name?"))
		}
		return err
	})
	packets.SetReadDeadline(time.Now().Add(time.Second))
	if k, _, err := packets.ReadFrom(make([]byte, 9)); err != nil || k != 5 {
		t.Errorf("a task without rules has no names: %v", err)
	}
}

// TestGroupsAreWaitedFor: a task does not start before its groups are known, and what was known holds over a restart and comes back when
// another program has taken it away.
func TestGroupsAreWaitedFor(t *testing.T) {
	n, c := guarded(t, 0)
	started := make(chan agent.NetworkInfo)
	go func() {
		info, err := n.Setup(context.Background(), agent.NetworkSpec{ID: "web", TaskID: "web", Mode: types.NetworkModeAwsvpc})
		if err != nil {
			t.Error(err)
		}
		started <- info
	}()
	select {
	case <-started:
		t.Error("a task began without groups")
	case <-time.After(soon):
	}
	if err := n.SetGroups(shop()); err != nil {
		t.Fatal(err)
	}
	web := <-started
	echo(t, web.NetnsPath, ":80")
	echo(t, web.NetnsPath, ":81")
	holds := func(when string) {
		t.Helper()
		if !reaches(t, "", web.IPv4+":80", soon) || reaches(t, "", web.IPv4+":81", soon) {
			t.Errorf("%s: the rules do not hold", when)
		}
	}
	holds("at first")
	dropTables(t, "berth-sg-"+c.ID)
	time.Sleep(3 * time.Second)
	holds("after another program has taken the table away")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	dropTables(t, "berth-sg-"+c.ID)
	again, err := network.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	holds("after a restart")
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
