package metadata

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/cgroup"
)

// statsShape is Docker's ContainerStats with the network rates of the ECS agent.
type statsShape struct {
	Read        time.Time               `json:"read"`
	PreRead     time.Time               `json:"preread"`
	Pids        pidsShape               `json:"pids_stats"`
	BlockIO     blockIOShape            `json:"blkio_stats"`
	NumProcs    uint32                  `json:"num_procs"`     // of Windows
	Storage     struct{}                `json:"storage_stats"` // of Windows
	CPU         cpuShape                `json:"cpu_stats"`
	PreCPU      cpuShape                `json:"precpu_stats"`
	Memory      memoryShape             `json:"memory_stats"`
	Name        string                  `json:"name"`
	ID          string                  `json:"id"`
	Networks    map[string]trafficShape `json:"networks,omitempty"`
	NetworkRate *rateShape              `json:"network_rate_stats,omitempty"`
}

type pidsShape struct {
	Current uint64 `json:"current"`
	Limit   uint64 `json:"limit,omitempty"`
}

// blockIOShape: the kernel counts bytes and operations only; the other lists are empty, as Docker's are.
type blockIOShape struct {
	ServiceBytes []ioShape `json:"io_service_bytes_recursive"`
	Serviced     []ioShape `json:"io_serviced_recursive"`
	Queue        []ioShape `json:"io_queue_recursive"`
	ServiceTime  []ioShape `json:"io_service_time_recursive"`
	WaitTime     []ioShape `json:"io_wait_time_recursive"`
	Merged       []ioShape `json:"io_merged_recursive"`
	Time         []ioShape `json:"io_time_recursive"`
	Sectors      []ioShape `json:"sectors_recursive"`
}

type ioShape struct {
	Major uint64 `json:"major"`
	Minor uint64 `json:"minor"`
	Op    string `json:"op"`
	Value uint64 `json:"value"`
}

// cpuShape: times in nanoseconds.
type cpuShape struct {
	Usage      cpuUsageShape   `json:"cpu_usage"`
	System     uint64          `json:"system_cpu_usage"`
	Online     int             `json:"online_cpus"`
	Throttling throttlingShape `json:"throttling_data"`
}

type cpuUsageShape struct {
	Total  uint64   `json:"total_usage"`
	PerCPU []uint64 `json:"percpu_usage,omitempty"`
	System uint64   `json:"usage_in_kernelmode"`
	User   uint64   `json:"usage_in_usermode"`
}

type throttlingShape struct {
	Periods   uint64 `json:"periods"`
	Throttled uint64 `json:"throttled_periods"`
	Time      uint64 `json:"throttled_time"`
}

type memoryShape struct {
	Usage    uint64            `json:"usage"`
	MaxUsage uint64            `json:"max_usage,omitempty"`
	Stats    map[string]uint64 `json:"stats"`
	Failures uint64            `json:"failcnt,omitempty"`
	Limit    uint64            `json:"limit"`
}

type trafficShape struct {
	RxBytes   uint64 `json:"rx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	RxErrors  uint64 `json:"rx_errors"`
	RxDropped uint64 `json:"rx_dropped"`
	TxBytes   uint64 `json:"tx_bytes"`
	TxPackets uint64 `json:"tx_packets"`
	TxErrors  uint64 `json:"tx_errors"`
	TxDropped uint64 `json:"tx_dropped"`
}

type rateShape struct {
	RxBytes float64 `json:"rx_bytes_per_sec"`
	TxBytes float64 `json:"tx_bytes_per_sec"`
}

// stats draws what was measured of a container.
func (d drawing) stats(c *containerShape, p pair) *statsShape {
	u := &p.now
	s := &statsShape{
		Read: u.At.UTC(), PreRead: p.before.At.UTC(), Name: "/" + c.DockerName, ID: c.DockerID,
		Pids: pidsShape{Current: u.Pids.Current, Limit: u.Pids.Limit}, CPU: cpu(u), PreCPU: cpu(&p.before),
		Memory: memoryShape{Usage: u.Memory.Usage, MaxUsage: u.Memory.Peak, Stats: u.Memory.Stat, Failures: u.Memory.Failures,
			Limit: u.Memory.Limit},
		BlockIO: blockIOShape{ServiceBytes: io(u.IO.Bytes), Serviced: io(u.IO.Operations), Queue: io(nil), ServiceTime: io(nil),
			WaitTime: io(nil), Merged: io(nil), Time: io(nil), Sectors: io(nil)},
	}
	if s.Memory.Limit == 0 || u.Machine.Memory > 0 && s.Memory.Limit > u.Machine.Memory {
		s.Memory.Limit = u.Machine.Memory
	}
	for name, n := range u.Networks {
		if s.Networks == nil {
			s.Networks = map[string]trafficShape{}
		}
		in, out := n.Received, n.Sent
		s.Networks[name] = trafficShape{RxBytes: in.Bytes, RxPackets: in.Packets, RxErrors: in.Errors, RxDropped: in.Dropped,
			TxBytes: out.Bytes, TxPackets: out.Packets, TxErrors: out.Errors, TxDropped: out.Dropped}
	}
	if mode := d.view.Task.NetworkMode; d.full && (mode == types.NetworkModeAwsvpc || mode == types.NetworkModeBridge) {
		s.NetworkRate = rates(p)
	}
	return s
}

func cpu(u *agent.Usage) cpuShape {
	c := &u.CPU
	s := cpuShape{
		Usage:  cpuUsageShape{Total: uint64(c.Total), System: uint64(c.System), User: uint64(c.User)},
		System: uint64(u.Machine.CPU), Online: u.Machine.CPUs,
		Throttling: throttlingShape{Periods: c.Periods, Throttled: c.ThrottledPeriods, Time: uint64(c.Throttled)},
	}
	for _, t := range c.PerCPU {
		s.Usage.PerCPU = append(s.Usage.PerCPU, uint64(t))
	}
	return s
}

// io is an empty list for none, never null.
func io(counts []cgroup.IOCount) []ioShape {
	all := make([]ioShape, 0, len(counts))
	for _, c := range counts {
		all = append(all, ioShape(c))
	}
	return all
}

// rates are what passed all interfaces in a second between the two measurements.
func rates(p pair) *rateShape {
	seconds := p.now.At.Sub(p.before.At).Seconds()
	if seconds <= 0 {
		return &rateShape{}
	}
	var in, out uint64
	for name, n := range p.now.Networks {
		old := p.before.Networks[name]
		in += n.Received.Bytes - min(old.Received.Bytes, n.Received.Bytes)
		out += n.Sent.Bytes - min(old.Sent.Bytes, n.Sent.Bytes)
	}
	return &rateShape{RxBytes: float64(in) / seconds, TxBytes: float64(out) / seconds}
}
