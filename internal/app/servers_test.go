package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
)

// berth is a server of a test's, in this process.
type berth struct {
	conf Config
	out  *lines
	stop func() error
	end  func() error // waits until it ends by itself
}

// portPair is an address whose port and the one after are free. They are below those that the kernel gives to others (from 32768 on), which
// it also keeps for a minute after their connections have ended.
func portPair(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := 10000 + rand.IntN(20000)
		first, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		second, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1)))
		first.Close()
		if err == nil {
			second.Close()
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		}
	}
	t.Fatal("no two ports are free")
	return ""
}

// start runs a server: `berth server`, or `berth up` without containers.
func start(c Config) *berth {
	ctx, cancel := context.WithCancel(context.Background())
	b, ended := &berth{conf: c, out: &lines{}}, make(chan error, 1)
	run := Server
	if c.Runtime != "" {
		run = Run
	}
	go func() { ended <- run(ctx, c, b.out) }()
	b.stop = func() error { cancel(); return <-ended }
	b.end = func() error {
		defer cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(30 * time.Second):
			return errors.New("it goes on")
		}
	}
	return b
}

func (b *berth) client(t *testing.T) *ecs.Client {
	t.Helper()
	var id, secret string
	eventually(t, b.conf.DataDir+" does not start", func() bool {
		in, err := LoadInstance(b.conf.DataDir)
		if err == nil {
			id, secret, err = iam.ReadRoot(in.RootKey())
		}
		return err == nil && b.out.String() != ""
	})
	return ecs.New(ecs.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://" + b.conf.Listen),
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, "")})
}

// parameters is a client of the Parameter Store at this server, with the credentials of another client.
func (b *berth) parameters(of *ecs.Client) *ssm.Client {
	return ssm.New(ssm.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://" + b.conf.Listen), Credentials: of.Options().Credentials})
}

// TestThreeServers: a Berth that was alone becomes three by tokens; each takes every request, also when the one that leads stops, and one
// is removed and refused afterwards.
func TestThreeServers(t *testing.T) {
	t.Parallel()
	servers := []*berth{}
	add := func(join string) *berth {
		c := Config{DataDir: filepath.Join(t.TempDir(), "data"), Listen: freePort(t), Advertise: portPair(t), Join: join, Version: "test", Pace: "fast"}
		if join == "" {
			c.Runtime = "fake"
		}
		b := start(c)
		servers = append(servers, b)
		return b
	}
	first := add("")
	c := first.client(t)
	eventually(t, "the first does not answer", func() bool {
		_, err := c.CreateCluster(t.Context(), &ecs.CreateClusterInput{ClusterName: aws.String("one")})
		return err == nil
	})
	for i := range 2 {
		var j Joining
		eventually(t, "no token is made", func() bool {
			var err error
			j, err = NewToken(t.Context(), TokenConfig{DataDir: first.conf.DataDir, Role: "server"})
			return err == nil
		})
		b := add(j.URL)
		name := fmt.Sprint("by-", i)
		eventually(t, "a server does not answer", func() bool {
			_, err := b.client(t).CreateCluster(t.Context(), &ecs.CreateClusterInput{ClusterName: &name})
			return err == nil
		})
	}
	if _, err := NewToken(t.Context(), TokenConfig{DataDir: servers[2].conf.DataDir, Role: "node"}); err != nil {
		t.Errorf("a token made on a server that follows: %v", err)
	}
	want := clusters(t, c)
	if len(want) != 4 {
		t.Errorf("clusters %v", want)
	}
	for _, b := range servers[1:] {
		if got := clusters(t, b.client(t)); !slices.Equal(got, want) {
			t.Errorf("another server has %v of %v", got, want)
		}
	}
	voting(t, first.conf.DataDir)
	kept := servers[1].parameters(c)
	if _, err := kept.PutParameter(t.Context(), &ssm.PutParameterInput{Name: aws.String("secret"), Value: aws.String("kept"), Type: "SecureString"}); err != nil {
		t.Error(err)
	}
	for _, b := range servers[1:] {
		eventually(t, "a server is not given the master key", func() bool {
			own, err := os.ReadFile(filepath.Join(b.conf.DataDir, "master.key"))
			others, _ := os.ReadFile(filepath.Join(first.conf.DataDir, "master.key"))
			return err == nil && len(own) > 0 && string(own) == string(others)
		})
	}
	if err := first.stop(); err != nil {
		t.Error(err)
	}
	began := time.Now()
	create(t, servers[1].client(t), "after")
	t.Log("a write after the leader's stop took", time.Since(began))
	if got, err := kept.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("secret"), WithDecryption: aws.Bool(true)}); err != nil || *got.Parameter.Value != "kept" {
		t.Errorf("what the first leader encrypted is not read by the next: %v", err)
	}
	if got := clusters(t, servers[2].client(t)); len(got) != len(want)+1 {
		t.Errorf("the third has %v", got)
	}
	first = start(first.conf)
	eventually(t, "the first does not come back", func() bool {
		got, err := first.client(t).ListClusters(t.Context(), &ecs.ListClustersInput{})
		return err == nil && len(got.ClusterArns) == len(want)+1
	})
	in, err := LoadInstance(servers[2].conf.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is not removed", func() bool { // etcd wants to have seen the others for some seconds
		_, err = RemoveServer(t.Context(), servers[1].conf.DataDir, in.NodeID[:8])
		return err == nil
	})
	if err := servers[2].end(); err == nil || !strings.Contains(err.Error(), "berth server rm") {
		t.Errorf("a server that was removed: %v", err)
	}
	create(t, first.client(t), "by-two")
	if err := RecoverQuorum(t.Context(), first.conf.DataDir, true, nil, &lines{}); err == nil {
		t.Error("a running server is recovered")
	}
	if err := first.stop(); err != nil {
		t.Error(err)
	}
	if err := RecoverQuorum(t.Context(), first.conf.DataDir, true, nil, &lines{}); err == nil || !strings.Contains(err.Error(), "answers at") {
		t.Errorf("while another lives: %v", err)
	}
	if err := servers[1].stop(); err != nil {
		t.Error(err)
	}
	no := &lines{}
	if err := RecoverQuorum(t.Context(), first.conf.DataDir, false, strings.NewReader("no\n"), no); err == nil || !strings.Contains(no.String(), servers[1].conf.Advertise) {
		t.Errorf("after a no: %v, %q", err, no)
	}
	before := incarnation(t, first.conf.DataDir)
	if err := RecoverQuorum(t.Context(), first.conf.DataDir, false, strings.NewReader("yes\n"), &lines{}); err != nil {
		t.Fatal(err)
	}
	if after := incarnation(t, first.conf.DataDir); before == "" || after == "" || after == before {
		t.Errorf("incarnation %q became %q", before, after)
	}
	first = start(first.conf)
	eventually(t, "it does not go on alone", func() bool {
		got, err := first.client(t).ListClusters(t.Context(), &ecs.ListClustersInput{})
		return err == nil && len(got.ClusterArns) == len(want)+2
	})
	if err := first.stop(); err != nil {
		t.Error(err)
	}
}

// incarnation is that of the state on a stopped server's disk.
func incarnation(t *testing.T, dir string) string {
	t.Helper()
	r, err := etcd.Peek(filepath.Join(dir, "etcd"), store.Schema())
	if err != nil {
		t.Fatal(err)
	}
	row, ok := store.ClusterSettings.Get(r, model.SettingsKey)
	if !ok {
		return ""
	}
	return row.Incarnation
}

// TestARestoredServerIsAnotherIncarnation: a backup of one of several servers is, where it is restored, the whole cluster, with the keys
// by which machines know it, in another incarnation.
func TestARestoredServerIsAnotherIncarnation(t *testing.T) {
	t.Parallel()
	first := start(Config{DataDir: filepath.Join(t.TempDir(), "data"), Listen: freePort(t), Advertise: portPair(t), Version: "test", Pace: "fast"})
	create(t, first.client(t), "kept")
	file, other := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "other")
	settings := func(dir string) (row *model.Settings, servers int) {
		r, err := etcd.Peek(filepath.Join(dir, "etcd"), store.Schema())
		if err != nil {
			t.Fatal(err)
		}
		row, _ = store.ClusterSettings.Get(r, model.SettingsKey)
		for range store.Servers.Scan(r, "") {
			servers++
		}
		return row, servers
	}
	eventually(t, "its row is not written", func() bool {
		r, err := Fleet(t.Context(), first.conf.DataDir)
		return err == nil && r.Cluster != ""
	})
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	if err := Backup(t.Context(), first.conf.DataDir, file, BackupWhat{}, &lines{}); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), other, file, &lines{}); err != nil {
		t.Fatal(err)
	}
	before, _ := settings(first.conf.DataDir)
	after, servers := settings(other)
	if before == nil || after == nil || before.ClusterID != after.ClusterID || before.Incarnation == after.Incarnation || servers != 1 {
		t.Errorf("%+v became %+v, with %d servers", before, after, servers)
	}
	was, err1 := pki.LoadCA(filepath.Join(first.conf.DataDir, "pki"))
	is, err2 := pki.LoadCA(filepath.Join(other, "pki"))
	if err1 != nil || err2 != nil || was.Pin() != is.Pin() {
		t.Errorf("another authority: %v, %v", err1, err2)
	}
	again := first.conf
	again.DataDir = other
	first = start(again)
	eventually(t, "it does not start", func() bool {
		got, err := first.client(t).ListClusters(t.Context(), &ecs.ListClustersInput{})
		return err == nil && len(got.ClusterArns) == 2
	})
	if err := first.stop(); err != nil {
		t.Error(err)
	}
	if err := Recover(t.Context(), other, &lines{}); err != nil {
		t.Fatal(err)
	}
	if recovered := incarnation(t, other); recovered == "" || recovered == after.Incarnation {
		t.Errorf("incarnation %q became %q by berth recover", after.Incarnation, recovered)
	}
}

// TestServersChangeWhatTheyBelieve: the authority of three servers is replaced, and how long they wait for a leader changes, while they answer;
// each starts afterwards and is one of them.
func TestServersChangeWhatTheyBelieve(t *testing.T) {
	t.Parallel()
	servers := []*berth{}
	join := ""
	for range 3 {
		b := start(Config{DataDir: filepath.Join(t.TempDir(), "data"), Listen: freePort(t), Advertise: portPair(t), Join: join, Version: "test", Pace: "fast"})
		servers = append(servers, b)
		create(t, b.client(t), fmt.Sprint("c", len(servers)))
		if len(servers) == 3 {
			break
		}
		eventually(t, "no token is made", func() bool {
			j, err := NewToken(t.Context(), TokenConfig{DataDir: servers[0].conf.DataDir, Role: "server"})
			join = j.URL
			return err == nil
		})
	}
	first := servers[0]
	voting(t, first.conf.DataDir)
	pins := func(b *berth) string {
		ca, err := pki.LoadCA(filepath.Join(b.conf.DataDir, "pki"))
		if err != nil {
			return err.Error()
		}
		id, err := pki.Load(filepath.Join(b.conf.DataDir, "pki"))
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("signs %x, shows %x, etcd %t, believes %d", ca.Pin(), pki.Pin(id.Issuer()), ca.SignedEtcd(filepath.Join(b.conf.DataDir, "pki")), len(id.Roots))
	}
	before := pins(first)
	out := &lines{}
	if err := RotateCA(t.Context(), servers[1].conf.DataDir, false, out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "follows within a minute") {
		t.Errorf("it said %q", out)
	}
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		now := pins(first)
		if now != before && pins(servers[1]) == now && pins(servers[2]) == now && strings.HasSuffix(now, "etcd true, believes 1") {
			t.Log("the authority was replaced in", time.Since(began))
			break
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("it was %s, and is\n%s\n%s\n%s", before, now, pins(servers[1]), pins(servers[2]))
		}
	}
	create(t, servers[2].client(t), "after")

	for i, b := range servers { // one after the other, as etcd believes the new one alone from now on
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		if i == 0 {
			b.conf.ElectionMs = new(2000)
		}
		servers[i] = start(b.conf)
		create(t, servers[i].client(t), fmt.Sprint("again", i))
	}
	eventually(t, "not all wait as long", func() bool {
		for _, b := range servers {
			if in, err := LoadInstance(b.conf.DataDir); err != nil || in.ElectionMs != 2000 {
				return false
			}
		}
		return true
	})
	for i, b := range servers {
		create(t, b.client(t), fmt.Sprint("last", i))
	}
	for _, b := range servers {
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	}
}
