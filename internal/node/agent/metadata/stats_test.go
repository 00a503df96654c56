package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/cgroup"
)

// busy is a container that uses half a CPU of two, and receives 1000 and sends 500 bytes a second, since epoch.
func busy(epoch time.Time) func(string) (agent.Usage, error) {
	return func(string) (agent.Usage, error) {
		at := time.Now()
		age := at.Sub(epoch)
		u := agent.Usage{At: at, Machine: agent.MachineUsage{CPU: 2 * age, CPUs: 2, Memory: 8 << 30},
			Networks: map[string]agent.InterfaceUsage{"eth0": {
				Received: agent.InterfaceCount{Bytes: uint64(1000 * age.Seconds()), Packets: 7, Errors: 1, Dropped: 2},
				Sent:     agent.InterfaceCount{Bytes: uint64(500 * age.Seconds()), Packets: 8, Errors: 3, Dropped: 4}}}}
		u.CPU = cgroup.CPUUsage{Total: age / 2, User: age / 4, System: age / 4, PerCPU: []time.Duration{age / 2, 0}, Periods: 9,
			ThrottledPeriods: 3, Throttled: time.Millisecond}
		u.Memory = cgroup.MemoryUsage{Usage: 4096, Peak: 8192, Limit: 64 << 20, Failures: 1, Stat: map[string]uint64{"rss": 2048}}
		u.IO = cgroup.IOUsage{Bytes: []cgroup.IOCount{{Major: 254, Minor: 1, Op: "Read", Value: 512}}}
		u.Pids = cgroup.PidsUsage{Current: 3, Limit: 100}
		return u, nil
	}
}

// dockerStats are the fields that docker stats, cAdvisor and the ECS agent's clients compute with, by Docker's names.
type dockerStats struct {
	Read, Preread time.Time
	Name, ID      string
	CPU, PreCPU   dockerCPU
	Memory        map[string]any            `json:"memory_stats"`
	Networks      map[string]map[string]int `json:"networks"`
	Rates         map[string]float64        `json:"network_rate_stats"`
	Pids          map[string]int            `json:"pids_stats"`
	BlockIO       map[string][]any          `json:"blkio_stats"`
}

type dockerCPU struct {
	Usage struct {
		Total  int64   `json:"total_usage"`
		PerCPU []int64 `json:"percpu_usage"`
	} `json:"cpu_usage"`
	System int64          `json:"system_cpu_usage"`
	Online int            `json:"online_cpus"`
	Held   map[string]int `json:"throttling_data"`
}

func parse(t *testing.T, body string) *dockerStats {
	t.Helper()
	var s *dockerStats
	var cpus struct {
		CPU    dockerCPU `json:"cpu_stats"`
		PreCPU dockerCPU `json:"precpu_stats"`
	}
	if err := errors.Join(json.Unmarshal([]byte(body), &s), json.Unmarshal([]byte(body), &cpus)); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if s != nil {
		s.CPU, s.PreCPU = cpus.CPU, cpus.PreCPU
	}
	return s
}

// percent is the CPU use as `docker stats` prints it.
func (s *dockerStats) percent() float64 {
	return float64(s.CPU.Usage.Total-s.PreCPU.Usage.Total) / float64(s.CPU.System-s.PreCPU.System) * float64(s.CPU.Online) * 100
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		epoch := time.Now().Add(-time.Hour)
		h := New(Config{Tasks: one{aTask(), busy(epoch)}}).Handler(FromTask)
		get := func(what string) string {
			code, body := ask(h, "/v4/"+id+"-web/"+what, "10.0.0.7")
			if code != 200 {
				t.Fatalf("%d %s", code, body)
			}
			return body
		}
		check := func(s *dockerStats, covers time.Duration) {
			t.Helper()
			if s.Read.Sub(s.Preread) != covers || !s.Read.Equal(time.Now()) {
				t.Errorf("covers %v to %v, want %v to now", s.Preread, s.Read, covers)
			}
			if p := s.percent(); p < 49.9 || p > 50.1 {
				t.Errorf("docker stats would print %v%%, want 50%%", p)
			}
			if in, out := s.Rates["rx_bytes_per_sec"], s.Rates["tx_bytes_per_sec"]; in < 990 || in > 1010 || out < 490 || out > 510 {
				t.Errorf("rates %v", s.Rates)
			}
		}
		first := parse(t, get("stats"))
		check(first, moment) // the request waited for a second measurement
		if first.ID != id+"-web" || first.Name != "/ecs-web-7-web-11111111222233334444" {
			t.Errorf("is of %q %q", first.ID, first.Name)
		}
		for what, is := range map[string][2]any{
			"memory":   {first.Memory["usage"], 4096.0},
			"peak":     {first.Memory["max_usage"], 8192.0},
			"limit":    {first.Memory["limit"], float64(64 << 20)},
			"rss":      {first.Memory["stats"].(map[string]any)["rss"], 2048.0},
			"pids":     {first.Pids["current"], 3},
			"online":   {first.CPU.Online, 2},
			"held":     {first.CPU.Held["throttled_time"], 1000000},
			"received": {first.Networks["eth0"]["rx_packets"], 7},
			"dropped":  {first.Networks["eth0"]["tx_dropped"], 4},
		} {
			if fmt.Sprint(is[0]) != fmt.Sprint(is[1]) {
				t.Errorf("%s is %v, want %v", what, is[0], is[1])
			}
		}
		want := map[string]any{"major": 254.0, "minor": 1.0, "op": "Read", "value": 512.0}
		if got := first.BlockIO["io_service_bytes_recursive"]; len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("block I/O %v", got)
		}
		if got, ok := first.BlockIO["io_queue_recursive"]; !ok || got == nil {
			t.Error("an empty list is null: Docker's clients range over []")
		}

		<-time.After(10 * time.Second)
		check(parse(t, get("stats")), 10*time.Second+moment)
		<-time.After(100 * time.Millisecond) // asked again at once: the older measurement still serves
		check(parse(t, get("stats")), 10*time.Second+moment+100*time.Millisecond)
		<-time.After(2 * lately)
		check(parse(t, get("stats")), moment)

		var all map[string]json.RawMessage
		<-time.After(gap)
		if err := json.Unmarshal([]byte(get("task/stats")), &all); err != nil || len(all) != 1 {
			t.Fatalf("%v %v", all, err)
		}
		check(parse(t, string(all[id+"-web"])), gap+moment)
		if _, v3 := ask(h, "/v3/"+id+"-web/stats", "10.0.0.7"); strings.Contains(v3, "network_rate_stats") {
			t.Error("version 3 has rates")
		}
	})
}

// A container that was restarted begins to count anew: nothing is compared with what it used before.
func TestStatsAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		epoch := time.Now().Add(-time.Hour)
		h := New(Config{Tasks: one{aTask(), func(id string) (agent.Usage, error) { return busy(epoch)(id) }}}).Handler(Anyone)
		ask(h, "/v4/"+id+"-web/stats", "10.0.0.7")
		<-time.After(5 * time.Second)
		epoch = time.Now().Add(-time.Second)
		_, body := ask(h, "/v4/"+id+"-web/stats", "10.0.0.7")
		if s := parse(t, body); s.Read.Sub(s.Preread) != moment || s.percent() > 51 {
			t.Errorf("covers %v, %v%%", s.Read.Sub(s.Preread), s.percent())
		}
	})
}

func TestStatsOfWhatCannotBeMeasured(t *testing.T) {
	tasks := one{view: aTask(), usage: func(string) (agent.Usage, error) { return agent.Usage{}, errors.New("a secret of the machine") }}
	h := New(Config{Tasks: tasks}).Handler(Anyone)
	if code, body := ask(h, "/v4/"+id+"-web/stats", "10.0.0.7"); code != 500 || body != `"V4 container stats handler: failed to get stats"` {
		t.Errorf("%d %s", code, body)
	}
	synctest.Test(t, func(t *testing.T) {
		tasks := one{view: aTask(), usage: busy(time.Now().Add(-time.Hour))}
		tasks.view.Task.NetworkMode = types.NetworkModeHost
		s := New(Config{Tasks: tasks})
		ask(s.Handler(Anyone), "/v4/"+id+"-web/stats", "10.0.0.7")
		<-time.After(2 * lately)
		s.meter.mu.Lock()
		s.meter.forget(time.Now())
		n := len(s.meter.known)
		s.meter.mu.Unlock()
		if n != 0 {
			t.Errorf("%d containers are remembered that nobody asks for", n)
		}
		_, body := ask(s.Handler(Anyone), "/v4/"+id+"-web/stats", "10.0.0.7")
		if strings.Contains(body, "network_rate_stats") {
			t.Error("a task in mode host has rates")
		}
	})
}
