package fleet

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// repeats is how often a benchmark does what it measures: BERTH_ROUNDS, else few.
func repeats(few int) int {
	if n, err := strconv.Atoi(os.Getenv("BERTH_ROUNDS")); err == nil {
		return n
	}
	return few
}

// tell prints the median and the 99th percentile, which of few are the largest, beside what is to be reached.
func tell(b *testing.B, what string, all []time.Duration, goal time.Duration) {
	b.Helper()
	slices.Sort(all)
	p := func(q float64) time.Duration { return all[min(int(q*float64(len(all))), len(all)-1)] }
	b.Logf("%s: p50 %v, p99 %v of %d (goal %v): %v", what, p(0.5).Round(time.Millisecond), p(0.99).Round(time.Millisecond), len(all), goal, all)
	b.ReportMetric(p(0.5).Seconds(), "p50-s")
	b.ReportMetric(p(0.99).Seconds(), "p99-s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkMachineDies is the time from a power cut until all tasks of a service are RUNNING, and healthy in the load balancer, on the
// machines that live.
func BenchmarkMachineDies(b *testing.B) {
	f := newFleet(b, "s1", "n2", "n3")
	f.cluster(1, "app:1")
	one := f.one()
	group := one.makeLB()
	one.makeService("web", one.register("web", web("app:1")), 6, group)
	one.stable(60*time.Second, "web")
	var all []time.Duration
	for range repeats(10) {
		victim := slices.MaxFunc(f.all[1:], func(x, y *box) int { return len(f.containers(x)) - len(f.containers(y)) })
		lost := map[string]bool{}
		before := f.containers(victim)
		if len(before) == 0 {
			b.Fatalf("%s runs nothing", victim.Name)
		}
		for _, t := range must(one.tasks("RUNNING"))(b) {
			lost[address(t)] = slices.ContainsFunc(before, func(c container) bool { return c.task == taskID(*t.TaskArn) })
		}
		cut := time.Now()
		if err := victim.Off(); err != nil {
			b.Fatal(err)
		}
		eventually(b, 60*time.Second, "six healthy targets on machines that live", func() error { return one.healthy(group, 6, lost) })
		all = append(all, time.Since(cut))
		if err := victim.On(); err != nil {
			b.Fatal(err)
		}
		victim.inCluster(one)
		one.stable(60*time.Second, "web")
		one.redeploy("web") // so that each machine has tasks again
		one.stable(60*time.Second, "web")
	}
	tell(b, "machine killed -> RUNNING and in the load balancer elsewhere", all, 3*time.Second)
}

// must returns what a call returned, or ends the benchmark.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// healthy tells whether a target group has so many healthy targets, and none of the lost addresses among them.
func (b *box) healthy(group string, want int, lost map[string]bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := elb.NewFromConfig(b.config()).DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &group})
	if err != nil {
		return err
	}
	n := 0
	for _, d := range out.TargetHealthDescriptions {
		if d.TargetHealth.State == elbtypes.TargetHealthStateEnumHealthy && !lost[aws.ToString(d.Target.Id)] {
			n++
		}
	}
	if n < want {
		return fmt.Errorf("%d healthy targets of %d", n, want)
	}
	return nil
}

// BenchmarkJoin is the time from the command on a machine until its first task is RUNNING, its image pulled from the cluster's registry.
func BenchmarkJoin(b *testing.B) {
	f := newFleet(b, "s1")
	one := f.one()
	one.up("--advertise", one.Address.String())
	one.push("team/app", "1")
	def := one.register("web", web("localhost:4566/team/app:1"))
	token := one.token("node")
	var all []time.Duration
	for n := range repeats(5) {
		m := f.add(fmt.Sprintf("n%d", n+2), "")
		began := time.Now()
		m.serve("node", "--zone", m.zone(), "--join", token)
		m.inCluster(one)
		one.reaches(one.runOn(m, def), "RUNNING")
		all = append(all, time.Since(began))
	}
	tell(b, "berth node --join -> its first task RUNNING", all, 5*time.Second)
}
