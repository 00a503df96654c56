package fleet

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var now = time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// seen is a cluster of two servers and four nodes.
func seen(t *testing.T) Report {
	t.Helper()
	s := mem.New(store.Schema())
	t.Cleanup(func() { s.Close() })
	node := func(id, host string, last byte) *model.Node {
		return &model.Node{ID: strings.Repeat(id, 8), Declaration: model.Declaration{Hostname: host, Address: "10.0.0.1" + string(last), CPU: 8192,
			Memory: 31 << 10, Version: "1.4.0", RuntimeVersion: "containerd", Attributes: map[string]string{"ecs.availability-zone": "us-east-1" + id[:1]}},
			RegisteredAt: ago(72 * time.Hour), Connected: true, ConnectedAt: ago(3 * time.Hour)}
	}
	away := node("b1e4", "n3", '3')
	away.Connected, away.LostAt = false, ago(40*time.Second)
	err := s.Update(context.Background(), func(tx store.Tx) error {
		store.ClusterSettings.Put(tx, &model.Settings{ClusterID: "c7f2c7f2c7f2c7f2", Level: 1})
		store.Servers.Put(tx, &model.Server{ID: "1", Name: "s1", Address: "10.0.0.1:4567", Version: "1.4.0"})
		store.Servers.Put(tx, &model.Server{ID: "2", Name: "s2", Address: "10.0.0.2:4567", Version: "1.4.0"})
		store.Clusters.Put(tx, &model.Cluster{Name: "default", Status: "ACTIVE", ARN: "arn:aws:ecs:us-east-1:000000000000:cluster/default"})
		drained := node("77c0", "n2", '2')
		lost := node("d00d", "n4", '4')
		lost.Connected, lost.LostAt = false, ago(12*time.Second)
		lost.Life = model.Life{Verdict: model.NodeLost, Reason: "dead 1.2 s after its last beat", Since: ago(12 * time.Second), Heard: ago(13 * time.Second)}
		for _, n := range []*model.Node{node("a3f9", "n1", '1'), drained, away, lost} {
			store.Nodes.Put(tx, n)
			store.Tasks.Put(tx, &model.Task{ID: "t" + n.ID, Cluster: "default", NodeID: n.ID})
		}
		c, _ := store.Clusters.Get(tx, "default")
		i := drained.Instance(c)
		i.Status = "DRAINING"
		store.Instances.Put(tx, i)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	s.View(func(reader store.Reader) {
		r = Look(reader, "us-east-1", Sources{
			Free: func(string) (int64, int64) { return 2048, 12 << 10 },
			Heard: func(node string) (time.Time, bool) {
				return ago(200 * time.Millisecond), strings.HasPrefix(node, "a3")
			},
			Servers: func(all []Server) []Server {
				all[0].Leader, all[0].Since, all[0].Fsync = true, ago(48*time.Hour), 3*time.Millisecond
				all[1].Away, all[1].Heard = true, ago(90*time.Second)
				return all
			}}, now)
	})
	r.Backup = ago(2 * time.Hour)
	return r
}

func same(t *testing.T, what, got, want string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(got) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	if got = strings.Join(lines, "\n"); got != strings.TrimSpace(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, strings.TrimSpace(want))
	}
}

func TestWhatPeopleSee(t *testing.T) {
	r := seen(t)
	var b strings.Builder
	if err := r.Show(&b); err != nil {
		t.Fatal(err)
	}
	same(t, "status", b.String(), `
c7f2c7f2 us-east-1  servers 1/2, leader s1 (2 d)  nodes 4: 1 up, 1 agent away, 1 draining, 1 lost  backup 2 h ago  level 1
SERVER  ADDRESS        ROLE       VERSION  FSYNC-P99  BEHIND
s1      10.0.0.1:4567  leader     1.4.0    3 ms       -
s2      10.0.0.2:4567  away 90 s  1.4.0    -          -
`)
	b.Reset()
	if err := r.ShowNodes(&b); err != nil {
		t.Fatal(err)
	}
	same(t, "node ls", b.String(), `
NODE      HOST  ADDRESS    ZONE  STATE     AGENT  HEARD  TASKS  CPU  MEM     NET  NOTE
a3f9a3f9  n1    10.0.0.11  a     ACTIVE    yes    0.2 s  1      6/8  19/31G  -
77c077c0  n2    10.0.0.12  7     DRAINING  yes    -      1      6/8  19/31G  -
b1e4b1e4  n3    10.0.0.13  b     ACTIVE    no     -      1      6/8  19/31G  -    agent away 40 s; tasks run
d00dd00d  n4    10.0.0.14  d     LOST      -      13 s   1      -    -       -    dead 1.2 s after its last beat
`)
}

func TestFind(t *testing.T) {
	r := seen(t)
	for _, word := range []string{"n1", "10.0.0.11", "a3f9", r.Nodes[0].ID} {
		if n, err := r.Find(word); err != nil || n.Host != "n1" {
			t.Errorf("%q is %v, %v", word, n.Host, err)
		}
	}
	twin := r.Nodes[0]
	twin.ID = "0" + twin.ID[1:]
	r.Nodes = append(r.Nodes, twin)
	for word, part := range map[string]string{"n9": "berth node ls", "a3": "berth node ls", "n1": twin.ID} {
		if _, err := r.Find(word); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v", word, err)
		}
	}
	var b strings.Builder
	if err := r.ShowNode(&b, r.Nodes[2]); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"away for 40 s", "19456 of 31744 MiB", "6 of 8", "2026-11-18 17:00:00 UTC", "Attribute  ecs.availability-zone=us-east-1b"} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("node show does not say %q:\n%s", part, b.String())
		}
	}
}
