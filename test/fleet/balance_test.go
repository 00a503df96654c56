package fleet

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"golang.org/x/sys/unix"
)

// asks has a machine ask its own load balancer until the returned function is called, which tells how many answers were not 200.
func (b *box) asks(at string) (failed func() (of int64, what []string)) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	var all atomic.Int64
	var mu sync.Mutex
	var bad []string
	for range 4 {
		done.Go(func() {
			for ctx.Err() == nil {
				status, _, err := b.get("http://" + at + "/")
				all.Add(1)
				if err != nil || status != http.StatusOK {
					mu.Lock()
					bad = append(bad, fmt.Sprint(status, " ", err))
					mu.Unlock()
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return func() (int64, []string) {
		cancel()
		done.Wait()
		return all.Load(), bad
	}
}

// Load balancers answer on machines without a server too: at the machine's own address, at the one for others, and by name at the API's
// port; they know of changes at once, and go on while no server is there, and when the machine's Berth is killed.
func TestLoadBalancersOnMachinesWithoutAServer(t *testing.T) {
	f := newFleet(t, "n1", "n2", "n3")
	f.cluster(1, "app:1")
	one, two, three := f.all[0], f.all[1], f.all[2]
	group := one.makeLB()
	one.makeService("svc", one.register("web", web("app:1")), 3, group)
	one.stable(60*time.Second, "svc")
	f.balance(two, three)
	if status, _, err := three.get(fmt.Sprintf("http://%s:%d/", two.Address, lbPort)); err != nil || status != http.StatusOK {
		t.Errorf("from another machine: %d %v", status, err)
	}
	lbs, err := elb.NewFromConfig(one.config()).DescribeLoadBalancers(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := two.Dial(context.Background(), "tcp", "127.0.0.1:4566")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s:4566\r\n\r\n", *lbs.LoadBalancers[0].DNSName)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Errorf("by its name: %q %v", line, err)
	}

	failed := two.asks(fmt.Sprintf("127.0.0.1:%d", lbPort))
	one.redeploy("svc")
	time.Sleep(500 * time.Millisecond)
	one.stable(60*time.Second, "svc")
	for _, desired := range []int32{6, 2} {
		if _, err := one.ecs().UpdateService(context.Background(), &ecs.UpdateServiceInput{Service: aws.String("svc"), DesiredCount: &desired}); err != nil {
			t.Fatal(err)
		}
		one.stable(60*time.Second, "svc")
	}
	if _, err := two.Signal(unix.SIGKILL, "berth node"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if err := two.StartServices(); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Signal(unix.SIGKILL, "berth up"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	if all, bad := failed(); len(bad) > 0 || all < 100 {
		t.Errorf("%d of %d requests by a machine without a server failed: %v", len(bad), all, bad[:min(5, len(bad))])
	}
	if err := one.StartServices(); err != nil {
		t.Fatal(err)
	}
	one.answers()
	one.stable(60*time.Second, "svc")

	if err := three.Off(); err != nil { // its view of the targets is none any more
		t.Fatal(err)
	}
	one.redeploy("svc")
	time.Sleep(500 * time.Millisecond)
	one.stable(90*time.Second, "svc")
	f.balance(two)
}
