package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/berthdev/berth/test/images"
)

// rounds is how often each variant runs; variants take turns.
const rounds = 25

// stamp waits for the time that a container wrote when it began to run.
func stamp(b testing.TB, file string) time.Time {
	b.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		data, err := os.ReadFile(file)
		if ns, perr := strconv.ParseInt(string(data), 10, 64); err == nil && perr == nil {
			os.Remove(file)
			return time.Unix(0, ns)
		}
		time.Sleep(time.Millisecond)
	}
	b.Fatalf("no process wrote %s", file)
	return time.Time{}
}

// starter starts a process that writes its time to the file out/<name>, and returns when the start was asked for.
type starter func(name string) time.Time

// BenchmarkStart measures from the call to the first instruction of the process, for RunTask and for its floors, in turns.
func BenchmarkStart(b *testing.B) {
	be := start(b)
	be.importImage("app:1")
	out := filepath.Join(be.dir, "out")
	os.MkdirAll(out, 0o777)
	variants := []struct {
		name string
		run  starter
	}{
		{"runc-run", be.runcStarter(out)},
		{"RunTask-host", be.taskStarter(out, types.NetworkModeHost)},
		{"RunTask-awsvpc", be.taskStarter(out, types.NetworkModeAwsvpc)},
	}
	if docker := be.dockerStarter(out); docker != nil {
		variants = append(variants, struct {
			name string
			run  starter
		}{"docker-run", docker})
	}
	times := make([][]time.Duration, len(variants))
	for b.Loop() {
		for r := range rounds {
			for i, v := range variants {
				name := fmt.Sprintf("%d-%d-%d", b.N, r, i)
				asked := v.run(name)
				times[i] = append(times[i], stamp(b, filepath.Join(out, name)).Sub(asked))
			}
		}
	}
	floor := quantile(times[0], 0.5)
	for i, v := range variants {
		b.ReportMetric(ms(quantile(times[i], 0.5)), v.name+"-p50-ms")
		b.ReportMetric(ms(quantile(times[i], 0.95)), v.name+"-p95-ms")
		if i > 0 {
			b.ReportMetric(float64(quantile(times[i], 0.5))/float64(floor), v.name+"/runc")
		}
	}
	b.ReportMetric(0, "ns/op")
	be.reportParallel(b, out)
}

// reportParallel compares the cost of a start when 16 are asked for at once with one after another.
func (b *berth) reportParallel(bench *testing.B, out string) {
	run := b.taskStarter(out, types.NetworkModeAwsvpc)
	one := time.Now()
	for i := range 16 {
		name := fmt.Sprintf("seq-%d", i)
		run(name)
		stamp(bench, filepath.Join(out, name))
	}
	sequential := time.Since(one) / 16
	all := time.Now()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() { run(fmt.Sprintf("par-%d", i)) })
	}
	wg.Wait()
	for i := range 16 {
		stamp(bench, filepath.Join(out, fmt.Sprintf("par-%d", i)))
	}
	parallel := time.Since(all) / 16
	bench.ReportMetric(ms(sequential), "sequential-ms/task")
	bench.ReportMetric(ms(parallel), "16-parallel-ms/task")
	bench.ReportMetric(float64(parallel)/float64(sequential), "parallel/sequential")
}

func (b *berth) taskStarter(out string, mode types.NetworkMode) starter {
	def, err := b.ecs().RegisterTaskDefinition(context.Background(), &ecs.RegisterTaskDefinitionInput{
		Family: aws.String("stamp-" + string(mode)), NetworkMode: mode,
		Volumes: []types.Volume{{Name: aws.String("out"), Host: &types.HostVolumeProperties{SourcePath: &out}}},
		ContainerDefinitions: []types.ContainerDefinition{{Name: aws.String("c"), Image: aws.String("app:1"), Memory: aws.Int32(64),
			MountPoints: []types.MountPoint{{SourceVolume: aws.String("out"), ContainerPath: aws.String("/out")}}}}})
	if err != nil {
		b.t.Fatal(err)
	}
	client := b.ecs()
	return func(name string) time.Time {
		in := &ecs.RunTaskInput{TaskDefinition: def.TaskDefinition.TaskDefinitionArn, Overrides: &types.TaskOverride{
			ContainerOverrides: []types.ContainerOverride{{Name: aws.String("c"), Command: []string{"stamp", "/out/" + name}}}}}
		if mode == types.NetworkModeAwsvpc {
			in.NetworkConfiguration = network
		}
		asked := time.Now()
		res, err := client.RunTask(context.Background(), in)
		if err != nil || len(res.Failures) > 0 {
			b.t.Fatalf("RunTask: %v %+v", err, res)
		}
		return asked
	}
}

// runcStarter runs the same program with the embedded runc and nothing else: the floor.
func (b *berth) runcStarter(out string) starter {
	runc, err := filepath.Abs("../../internal/node/embedded/bin/runc")
	if err != nil {
		b.t.Fatal(err)
	}
	bundle := filepath.Join(b.dir, "bundle")
	root := filepath.Join(bundle, "rootfs")
	os.MkdirAll(root, 0o755)
	program, err := images.Program()
	if err != nil {
		b.t.Fatal(err)
	}
	os.WriteFile(filepath.Join(root, "web"), program, 0o755)
	spec := exec.Command(runc, "spec")
	spec.Dir = bundle
	if msg, err := spec.CombinedOutput(); err != nil {
		b.t.Fatalf("runc spec: %v %s", err, msg)
	}
	base, _ := os.ReadFile(filepath.Join(bundle, "config.json"))
	return func(name string) time.Time {
		var conf map[string]any
		json.Unmarshal(base, &conf)
		process := conf["process"].(map[string]any)
		process["args"] = []string{"/web", "stamp", "/out/" + name}
		process["terminal"] = false
		conf["mounts"] = append(conf["mounts"].([]any), map[string]any{"destination": "/out", "type": "bind", "source": out, "options": []string{"rbind", "rw"}})
		data, _ := json.Marshal(conf)
		os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600)
		cmd := exec.Command(runc, "--root", filepath.Join(b.dir, "runc-root"), "run", "floor-"+name)
		cmd.Dir = bundle
		asked := time.Now()
		if msg, err := cmd.CombinedOutput(); err != nil {
			b.t.Fatalf("runc run: %v %s", err, msg)
		}
		return asked
	}
}

// dockerStarter is nil where no Docker daemon answers.
func (b *berth) dockerStarter(out string) starter {
	const ref = "berth-bench:1"
	if exec.Command("docker", "version").Run() != nil {
		return nil
	}
	file := filepath.Join(b.dir, "docker.tar")
	if err := tarball.WriteToFile(file, name.MustParseReference(ref), webImage(b.t, ref)); err != nil {
		b.t.Fatal(err)
	}
	if msg, err := exec.Command("docker", "load", "-i", file).CombinedOutput(); err != nil {
		b.t.Fatalf("docker load: %v %s", err, msg)
	}
	b.t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", ref).Run() })
	return func(name string) time.Time {
		asked := time.Now()
		if msg, err := exec.Command("docker", "run", "-d", "--rm", "-v", out+":/out", ref, "stamp", "/out/"+name).CombinedOutput(); err != nil {
			b.t.Fatalf("docker run: %v %s", err, msg)
		}
		return asked
	}
}

// BenchmarkIdleMemory prints the proportional set size of an idle Berth, all its processes together, and the binary's size.
func BenchmarkIdleMemory(b *testing.B) {
	be := start(b)
	time.Sleep(3 * time.Second)
	for b.Loop() {
		total := 0.0
		for _, pid := range append(processes(" containerd --config", be.instanceID()), be.cmd.Process.Pid) {
			total += pss(b, pid)
		}
		b.ReportMetric(total, "PSS-MB")
	}
	if st, err := os.Stat(be.bin); err == nil {
		b.ReportMetric(float64(st.Size())/1e6, "binary-MB")
	}
	b.ReportMetric(0, "ns/op")
}

func pss(b testing.TB, pid int) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		if f := strings.Fields(string(line)); len(f) >= 2 && f[0] == "Pss:" {
			kb, _ := strconv.ParseFloat(f[1], 64)
			return kb / 1024
		}
	}
	return 0
}

func quantile(d []time.Duration, q float64) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[min(len(d)-1, int(q*float64(len(d))))]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
