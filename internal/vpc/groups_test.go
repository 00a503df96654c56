package vpc_test

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// task is one on a node, in groups; address "" while it has none.
func task(id, node, address string, groups ...string) *model.Task {
	return &model.Task{ID: id, NodeID: node, NetworkMode: types.NetworkModeAwsvpc, NetworkConfiguration: &types.NetworkConfiguration{
		AwsvpcConfiguration: &types.AwsVpcConfiguration{SecurityGroups: groups}},
		Observed: model.Observed{Status: model.Running, Interface: &model.NetworkInterface{IPv4: address}}}
}

func from(group string) model.SecurityGroupRule {
	return model.SecurityGroupRule{ID: "sgr-" + group, Protocol: "tcp", From: 80, To: 80, Group: group, Description: "d"}
}

// enforces is what a node was told: "alb(machines) db[10.0.0.3] web[10.0.0.1 10.0.0.2]", and for how many tasks.
func (n *node) enforces() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var s string
	for _, id := range slices.Sorted(maps.Keys(n.guard.Groups)) {
		g := n.guard.Groups[id]
		s += id
		if g.Machines {
			s += "(machines)"
		}
		s += fmt.Sprintf("%v%d ", g.Members, len(g.Rules))
	}
	return s + fmt.Sprint(len(n.guard.Tasks))
}

func TestNodesHearOfTheGroupsThatTheyNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "172.31.0.0/16")
		w.update(func(tx store.Tx) {
			for _, g := range []*model.SecurityGroup{{ID: "web", Rules: []model.SecurityGroupRule{from("alb")}}, {ID: "db", Rules: []model.SecurityGroupRule{from("web")}},
				{ID: "alb"}, {ID: "other", Rules: []model.SecurityGroupRule{from("db")}}} {
				store.SecurityGroups.Put(tx, g)
			}
			store.Tasks.Put(tx, task("1", "a", "10.0.0.1", "web"))
			store.Tasks.Put(tx, task("2", "b", "10.0.0.2", "web", "db"))
		})
		a, b := w.join("a", "192.0.2.1"), w.join("b", "192.0.2.2")
		expect := func(what, wantA, wantB string) {
			t.Helper()
			time.Sleep(time.Second) // of synctest: the promise is that it takes no longer
			synctest.Wait()
			if gotA, gotB := a.enforces(), b.enforces(); gotA != wantA || gotB != wantB {
				t.Errorf("%s:\n%s\nwant %s\n%s\nwant %s", what, gotA, wantA, gotB, wantB)
			}
		}
		expect("at first", "alb[]0 web[10.0.0.1 10.0.0.2]1 1", "alb[]0 db[10.0.0.2]1 web[10.0.0.1 10.0.0.2]1 1")
		w.update(func(tx store.Tx) { store.Tasks.Put(tx, task("3", "a", "", "other")) })
		expect("a task without an address", "alb[]0 db[10.0.0.2]1 other[]1 web[10.0.0.1 10.0.0.2]1 2", "alb[]0 db[10.0.0.2]1 web[10.0.0.1 10.0.0.2]1 1")
		w.update(func(tx store.Tx) {
			store.LoadBalancers.Put(tx, &model.LoadBalancer{ARN: "lb", LB: elbtypes.LoadBalancer{SecurityGroups: []string{"alb"}}})
			store.Tasks.Delete(tx, "3")
		})
		expect("a load balancer", "alb(machines)[]0 web[10.0.0.1 10.0.0.2]1 1", "alb(machines)[]0 db[10.0.0.2]1 web[10.0.0.1 10.0.0.2]1 1")
		w.update(func(tx store.Tx) {
			store.SecurityGroups.Put(tx, &model.SecurityGroup{ID: "web", Rules: []model.SecurityGroupRule{from("alb"), from("db")}})
			ended := task("1", "a", "10.0.0.1", "web")
			ended.Observed.Status = model.Stopped
			store.Tasks.Put(tx, ended)
			store.Tasks.Put(tx, task("4", "a", "10.0.0.1", "web")) // which got the address
		})
		expect("a rule, and an address that is another's", "alb(machines)[]0 db[10.0.0.2]1 web[10.0.0.1 10.0.0.2]2 1",
			"alb(machines)[]0 db[10.0.0.2]1 web[10.0.0.1 10.0.0.2]2 1")
		w.update(func(tx store.Tx) {
			store.Tasks.Delete(tx, "1")
			store.LoadBalancers.Delete(tx, "lb")
			store.Tasks.Delete(tx, "2")
		})
		expect("gone", "alb[]0 db[]1 web[10.0.0.1]2 1", "0")
		a.mu.Lock()
		if r := a.guard.Groups["web"].Rules[0]; r.ID+r.Description != "" || !reflect.DeepEqual(a.guard.Tasks["4"].Groups, []string{"web"}) {
			t.Errorf("the node was told %+v of %v", r, a.guard.Tasks)
		}
		a.mu.Unlock()
		a.stop()
		b.stop()
	})
}

// TestAGroupOfThousands: its members come in messages of bounded size, and are whole in the end.
func TestAGroupOfThousands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "172.31.0.0/16")
		const n = 9001
		w.update(func(tx store.Tx) {
			store.SecurityGroups.Put(tx, &model.SecurityGroup{ID: "web", Rules: []model.SecurityGroupRule{from("web")}})
			a := netip.MustParseAddr("10.0.0.0")
			for i := range n {
				store.Tasks.Put(tx, task(fmt.Sprint(i), map[bool]string{true: "a", false: "b"}[i == 0], a.String(), "web"))
				a = a.Next()
			}
		})
		a := w.join("a", "192.0.2.1")
		time.Sleep(time.Second)
		synctest.Wait()
		a.mu.Lock()
		defer a.mu.Unlock()
		if got := len(a.guard.Groups["web"].Members); got != n {
			t.Errorf("%d members", got)
		}
		a.stop()
	})
}

// TestSubnetsHaveBlocksOfTheirOwn: a node gets blocks of a user's subnet when a task of its needs an address there, others' ways lead there,
// and they come back when they are empty or the subnet is gone.
func TestSubnetsHaveBlocksOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "172.31.0.0/16")
		cidr := "10.0.1.0/24"
		w.update(func(tx store.Tx) {
			store.Subnets.Put(tx, &model.Subnet{ID: "subnet-1", VPC: "vpc-1", Subnet: ec2types.Subnet{CidrBlock: &cidr}})
			own := task("1", "a", "", "web")
			own.Observed.Interface.SubnetID = "subnet-1"
			store.Tasks.Put(tx, own)
		})
		a := w.join("a", "192.0.2.1")
		synctest.Wait()
		b := w.join("b", "192.0.2.2")
		time.Sleep(time.Second)
		synctest.Wait()
		if got := a.guard.Tasks["1"].Subnet; got != "subnet-1" {
			t.Errorf("the task's subnet is %q", got)
		}
		say := func(n *node, want int, used int, empty time.Duration) {
			n.mu.Lock()
			n.wantIn, n.empty = map[string]int{"subnet-1": want}, empty
			for _, s := range n.in {
				for _, p := range s.Blocks {
					n.used[p] = used
				}
			}
			n.mu.Unlock()
			n.changed <- struct{}{}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		say(a, 1, 0, 0)
		say(b, 1, 0, 0)
		if fmt.Sprint(a.in, b.in) != "map[subnet-1:{10.0.1.0/24 [10.0.1.0/28]}] map[subnet-1:{10.0.1.0/24 [10.0.1.16/28]}]" {
			t.Errorf("%v and %v", a.in, b.in)
		}
		if want := "a 192.0.2.1 [172.31.0.0/26 10.0.1.0/28]; b 192.0.2.2 [172.31.0.64/26 10.0.1.16/28]; "; a.knows() != want {
			t.Errorf("a knows %s", a.knows())
		}
		say(a, 0, 11, 0)
		if len(a.in["subnet-1"].Blocks) != 2 {
			t.Errorf("a full node has %v", a.in)
		}
		w.update(func(tx store.Tx) { store.Subnets.Delete(tx, "subnet-1") })
		say(b, 0, 0, time.Second)
		say(b, 0, 0, time.Second)
		if len(b.in) != 0 {
			t.Errorf("a block of a subnet that is gone stays: %v", b.in)
		}
		w.store.View(func(r store.Reader) {
			if _, ok := store.Blocks.Get(r, "10.0.1.16/28"); ok {
				t.Error("its row stays")
			}
		})
		a.stop()
		b.stop()
	})
}
