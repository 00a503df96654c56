package fleet

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// ShortID is as much of an id as names it in a list.
func ShortID(id string) string { return id[:min(len(id), 8)] }

// Show writes the cluster and its servers, as `berth status` does.
func (r Report) Show(w io.Writer) error {
	fmt.Fprintln(w, r.head())
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SERVER\tADDRESS\tROLE\tVERSION\tFSYNC-P99\tBEHIND")
	for _, s := range r.Servers {
		role := "follower"
		switch {
		case s.Leader:
			role = "leader"
		case s.Away && s.Heard.IsZero():
			role = "away"
		case s.Away:
			role = "away " + Ago(r.At.Sub(s.Heard))
		case s.Joining:
			role = "joining"
		}
		fsync, behind := "-", "-"
		if s.Fsync > 0 {
			fsync = fmt.Sprintf("%.2g ms", float64(s.Fsync.Microseconds())/1000)
		}
		if s.Behind >= 0 && !s.Leader {
			behind = fmt.Sprint(s.Behind)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Address, role, cmp.Or(s.Version, "-"), fsync, behind)
	}
	return t.Flush()
}

func (r Report) head() string {
	up, leader := 0, "no leader"
	for _, s := range r.Servers {
		if !s.Away {
			up++
		}
		if s.Leader {
			leader = "leader " + s.Name
			if !s.Since.IsZero() {
				leader += " (" + Ago(r.At.Sub(s.Since)) + ")"
			}
		}
	}
	backup := "no backup"
	if !r.Backup.IsZero() {
		backup = "backup " + Ago(r.At.Sub(r.Backup)) + " ago"
	}
	name := r.Region
	if r.Cluster != "" {
		name = ShortID(r.Cluster) + " " + name
	}
	return fmt.Sprintf("%s  servers %d/%d, %s  nodes %s  %s  level %d", name, up, len(r.Servers), leader, r.counts(), backup, r.Level)
}

// counts is like "12: 11 up, 1 draining".
func (r Report) counts() string {
	n := map[string]int{}
	for _, node := range r.Nodes {
		switch {
		case node.State == Active && node.Agent:
			n["up"]++
		case node.State == Active:
			n["agent away"]++
		default:
			n[strings.ToLower(node.State)]++
		}
	}
	var parts []string
	for _, k := range append([]string{"up"}, slices.Sorted(maps.Keys(n))...) {
		if n[k] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[k], k))
			delete(n, k)
		}
	}
	if len(parts) == 0 {
		return "0"
	}
	return fmt.Sprintf("%d: %s", len(r.Nodes), strings.Join(parts, ", "))
}

// ShowNodes writes the nodes, as `berth node ls` does.
func (r Report) ShowNodes(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tHOST\tADDRESS\tZONE\tSTATE\tAGENT\tHEARD\tTASKS\tCPU\tMEM\tNET\tNOTE")
	for _, n := range r.Nodes {
		agent, cpu, mem := "no", fmt.Sprintf("%s/%s", cores(n.UsedCPU), cores(n.CPU)), fmt.Sprintf("%s/%sG", gib(n.UsedMemory), gib(n.Memory))
		switch {
		case n.State == Lost:
			agent, cpu, mem = "-", "-", "-"
		case n.Agent:
			agent = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", ShortID(n.ID), cmp.Or(n.Host, "-"), cmp.Or(n.Address, "-"),
			cmp.Or(strings.TrimPrefix(n.Zone, r.Region), "-"), n.State, agent, r.heard(n), n.Tasks, cpu, mem, cmp.Or(n.Network, "-"), n.Note)
	}
	return t.Flush()
}

func (r Report) heard(n Node) string {
	if n.Heard.IsZero() {
		return "-"
	}
	return Ago(r.At.Sub(n.Heard))
}

// cores spells CPU units: 6, 0.5.
func cores(units int64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", float64(units)/1024), "0"), ".")
}

// gib spells MiB as GiB: 19, 0.5.
func gib(mib int64) string {
	if mib >= 10<<10 || mib%1024 == 0 {
		return fmt.Sprint(mib / 1024)
	}
	return fmt.Sprintf("%.1f", float64(mib)/1024)
}

// ShowNode writes all that is known of one node, as `berth node show` does.
func (r Report) ShowNode(w io.Writer, n Node) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	clusters := "all"
	if n.Clusters != nil {
		clusters = strings.Join(n.Clusters, ", ")
	}
	agent := "connected for "
	if !n.Agent {
		agent = "away for "
	}
	for _, line := range [][2]string{
		{"Node", n.ID}, {"Host", n.Host}, {"Address", n.Address}, {"Zone", n.Zone}, {"State", n.State},
		{"Agent", agent + Ago(r.At.Sub(n.Since))}, {"Heard", r.heard(n)}, {"Tasks", fmt.Sprint(n.Tasks)},
		{"CPU", cores(n.UsedCPU) + " of " + cores(n.CPU)}, {"Memory", fmt.Sprintf("%d of %d MiB", n.UsedMemory, n.Memory)},
		{"Network", n.Network}, {"Clusters", clusters}, {"Version", n.Version}, {"Runtime", n.Runtime}, {"Boot", n.Boot},
		{"Joined", n.Registered.UTC().Format("2006-01-02 15:04:05 UTC")}, {"Note", n.Note},
	} {
		if line[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", line[0], line[1])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(n.Attributes)) {
		fmt.Fprintf(t, "Attribute\t%s=%s\n", k, n.Attributes[k])
	}
	return t.Flush()
}
