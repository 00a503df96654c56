package logdriver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
)

// memory is a sink that may fail.
type memory struct {
	mu       sync.Mutex
	prepared []string
	missing  bool
	fails    int
	lines    []string
	largest  int
	wrote    chan struct{}
	has      map[string]model.LogPosition // by source
}

// Position implements agent.LogSink.
func (m *memory) Position(_ context.Context, _, _, source string) (model.LogPosition, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.has[source], nil
}

func (m *memory) Prepare(_ context.Context, group, stream string, create bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.missing && !create {
		return &agent.Error{Name: "ResourceInitializationError", Message: "The specified log group does not exist"}
	}
	m.prepared = append(m.prepared, group+" "+stream)
	return nil
}

func (m *memory) Append(_ context.Context, batch model.LogBatch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails > 0 {
		m.fails--
		return errors.New("not now")
	}
	size := 0
	events, had := batch.Lines, m.has[batch.Source]
	has := had
	for _, e := range events {
		if e.Message == "" || e.At.IsZero() || e.End <= e.Start {
			return errors.New("an empty event")
		}
		if e.End <= had[e.Output] {
			continue
		}
		if e.Start < had[e.Output] {
			return fmt.Errorf("a line from %d to %d, though the position is %v", e.Start, e.End, had)
		}
		has[e.Output] = max(has[e.Output], e.End)
		size += len(e.Message) + 26
		m.lines = append(m.lines, e.Message)
	}
	if size > 1<<20 || len(events) > 10_000 {
		return fmt.Errorf("a batch of %d events, %d bytes", len(events), size)
	}
	m.largest = max(m.largest, len(events))
	if m.has == nil {
		m.has = map[string]model.LogPosition{}
	}
	m.has[batch.Source] = has
	select {
	case m.wrote <- struct{}{}:
	default:
	}
	return nil
}

func (m *memory) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.lines...)
}

func newDriver(t testing.TB, sink agent.LogSink) *Driver {
	t.TempDir() // so that it is deleted after the driver is closed
	cfg := Config{Sink: sink, Poll: 200 * time.Millisecond}
	if tt, ok := t.(*testing.T); ok {
		cfg.Log = slog.New(slog.NewTextHandler(tt.Output(), nil))
	}
	d := New(cfg)
	t.Cleanup(func() { d.Close() })
	return d
}

func awslogs(dir string, options ...string) agent.LogSpec {
	o := map[string]string{"awslogs-group": "/g", "awslogs-stream-prefix": "p"}
	for i := 0; i < len(options); i += 2 {
		o[options[i]] = options[i+1]
	}
	return agent.LogSpec{ID: "0123-web", TaskID: "0123", Container: "web", Dir: dir,
		Config: &types.LogConfiguration{LogDriver: types.LogDriverAwslogs, Options: o}}
}

func jsonFileSpec(dir string, options ...string) agent.LogSpec {
	s := agent.LogSpec{ID: "0123-web", TaskID: "0123", Container: "web", Dir: dir}
	if len(options) > 0 {
		s.Config = &types.LogConfiguration{LogDriver: types.LogDriverJsonFile, Options: map[string]string{}}
		for i := 0; i < len(options); i += 2 {
			s.Config.Options[options[i]] = options[i+1]
		}
	}
	return s
}

func open(t testing.TB, d *Driver, spec agent.LogSpec) (stdout, stderr *os.File) {
	t.Helper()
	files, err := d.Open(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return appendTo(t, files.Stdout), appendTo(t, files.Stderr)
}

func appendTo(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func finish(t testing.TB, d *Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := d.Finish(ctx, "0123-web"); err != nil {
		t.Fatal(err)
	}
}

func TestAwslogs(t *testing.T) {
	sink := &memory{wrote: make(chan struct{}, 1)}
	d := newDriver(t, sink)
	dir := t.TempDir()
	out, errs := open(t, d, awslogs(dir))
	began := time.Now()
	fmt.Fprintln(out, "hello")
	select {
	case <-sink.wrote:
	case <-time.After(5 * time.Second):
		t.Fatal("a line is not carried while the container runs")
	}
	t.Logf("first line after %s", time.Since(began))
	fmt.Fprint(out, "\nwörld\r\nno end")
	fmt.Fprintln(errs, "bad \xff byte")
	finish(t, d)
	got := sink.all()
	isError := func(line string) bool { return line == "bad \uFFFD byte" } // it comes when it comes
	if out := slices.DeleteFunc(slices.Clone(got), isError); len(got) != 4 || !slices.Equal(out, []string{"hello", "wörld", "no end"}) {
		t.Errorf("%q", got)
	}
	if sink.prepared[0] != "/g p/web/0123" {
		t.Errorf("prepared %q", sink.prepared)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files outlive the container: %v %v", left, err)
	}
}

func TestSinkFailuresLoseNothing(t *testing.T) {
	sink := &memory{fails: 3}
	d := newDriver(t, sink)
	out, _ := open(t, d, awslogs(t.TempDir()))
	var want []string
	for i := range 25_000 {
		line := fmt.Sprintf("line %d", i)
		want = append(want, line)
		fmt.Fprintln(out, line)
	}
	finish(t, d)
	if got := sink.all(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%d lines came, of %d", len(got), len(want))
	}
}

func TestFinishGivesUpWithItsContextAndGoesOnBehind(t *testing.T) {
	sink := &memory{fails: 4, wrote: make(chan struct{}, 1)}
	d := newDriver(t, sink)
	out, _ := open(t, d, awslogs(t.TempDir()))
	fmt.Fprintln(out, "late")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.Finish(ctx, "0123-web"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Finish: %v", err)
	}
	finish(t, d)
	if got := sink.all(); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestMultiline(t *testing.T) {
	for option, value := range map[string]string{
		"awslogs-multiline-pattern": `^\[`, "awslogs-datetime-format": `[%Y-%m-%d %H:%M:%S]`,
	} {
		sink := &memory{}
		d := newDriver(t, sink)
		out, _ := open(t, d, awslogs(t.TempDir(), option, value))
		fmt.Fprint(out, "[2026-11-20 10:00:00] panic\n  at a\n  at b\n[2026-11-20 10:00:01] next\n")
		finish(t, d)
		if got := sink.all(); len(got) != 2 || got[0] != "[2026-11-20 10:00:00] panic\n  at a\n  at b" {
			t.Errorf("%s: %q", option, got)
		}
	}
}

func TestRefusals(t *testing.T) {
	with := func(driver types.LogDriver, options ...string) agent.LogSpec {
		s := jsonFileSpec(t.TempDir(), append([]string{"mode", "blocking"}, options...)...)
		s.Config.LogDriver = driver
		return s
	}
	missing := awslogs(t.TempDir())
	for name, c := range map[string]struct {
		spec agent.LogSpec
		want string
	}{
		"driver":   {with("fluentd"), "container web uses the log driver fluentd, which Berth does not support"},
		"no group": {with("awslogs"), "must specify a value for log opt 'awslogs-group'"},
		"unknown":  {awslogs(t.TempDir(), "no", "x"), "unknown log opt 'no'"},
		"size":     {with("json-file", "max-size", "many"), "max-size"},
		"files":    {with("json-file", "max-file", "0"), "max-file"},
		"both":     {awslogs(t.TempDir(), "awslogs-datetime-format", "%Y", "awslogs-multiline-pattern", "x"), "at the same time"},
		"pattern":  {awslogs(t.TempDir(), "awslogs-multiline-pattern", "("), "pattern"},
		"format":   {awslogs(t.TempDir(), "awslogs-datetime-format", "%Q"), "directive"},
		"missing":  {missing, "does not exist"},
	} {
		d := newDriver(t, &memory{missing: true})
		_, err := d.Open(t.Context(), c.spec)
		var named *agent.Error
		if !errors.As(err, &named) || named.Name != "ResourceInitializationError" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// lines reads the json-file logs of dir, oldest first.
func lines(t testing.TB, dir string) []jsonLine {
	t.Helper()
	var all []jsonLine
	for i := 100; i >= 0; i-- {
		path := filepath.Join(dir, "container.log")
		if i > 0 {
			path += fmt.Sprintf(".%d", i)
		}
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		sc := bufio.NewScanner(f)
		sc.Buffer(nil, 4<<20)
		for sc.Scan() {
			var l jsonLine
			if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
				t.Fatalf("%s: %v: %q", path, err, sc.Bytes())
			}
			all = append(all, l)
		}
		f.Close()
	}
	return all
}

func TestJSONFileRotates(t *testing.T) {
	d := newDriver(t, nil)
	dir := t.TempDir()
	out, _ := open(t, d, jsonFileSpec(dir, "max-size", "10k", "max-file", "3"))
	for i := range 2000 {
		fmt.Fprintf(out, "line %d\n", i)
	}
	finish(t, d)
	files, _ := filepath.Glob(filepath.Join(dir, "container.log*"))
	if len(files) != 3 {
		t.Errorf("files %v", files)
	}
	for _, f := range files {
		if info, _ := os.Stat(f); info.Size() > 10<<10 {
			t.Errorf("%s has %d bytes", f, info.Size())
		}
	}
	all := lines(t, dir)
	for i, l := range all {
		if want := fmt.Sprintf("line %d\n", 2000-len(all)+i); l.Log != want || l.Stream != "stdout" {
			t.Fatalf("line %d is %+v, want %q", i, l, want)
		}
	}
}

// TestNothingIsLostOverRestarts: whatever a container writes, in whatever pieces, over any number of drivers, comes out whole.
// Only a crash repeats lines; Close does not.
func TestNothingIsLostOverRestarts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "logdriver")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		spec := jsonFileSpec(dir)
		var want [2]bytes.Buffer
		for i := range rapid.IntRange(1, 4).Draw(rt, "drivers") {
			d := New(Config{})
			spec.Resume = i > 0
			files, err := d.Open(context.Background(), spec)
			if err != nil {
				rt.Fatal(err)
			}
			for range rapid.IntRange(0, 4).Draw(rt, "writes") {
				which := rapid.IntRange(0, 1).Draw(rt, "stream")
				piece := rapid.StringMatching(`([a-zé]{0,20}\n?){0,6}`).Draw(rt, "piece")
				piece = strings.Repeat(piece, rapid.SampledFrom([]int{1, 1, 100, 3000}).Draw(rt, "times"))
				path := []string{files.Stdout, files.Stderr}[which]
				f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
				if err != nil {
					rt.Fatal(err)
				}
				f.WriteString(piece)
				f.Close()
				want[which].WriteString(piece)
			}
			if rapid.Bool().Draw(rt, "settle") {
				d.mu.Lock()
				f := d.followers[spec.ID]
				d.mu.Unlock()
				f.look()
			}
			d.Close()
		}
		d := New(Config{})
		defer d.Close()
		spec.Resume = true
		if _, err := d.Open(context.Background(), spec); err != nil {
			rt.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.Finish(ctx, spec.ID); err != nil {
			rt.Fatal(err)
		}
		var got [2]bytes.Buffer
		for _, l := range lines(t, dir) {
			if l.Stream == "stdout" {
				got[0].WriteString(l.Log)
			} else {
				got[1].WriteString(l.Log)
			}
		}
		for i := range want {
			if !bytes.Equal(got[i].Bytes(), want[i].Bytes()) {
				rt.Fatalf("%s: %d bytes came out of %d", streams[i], got[i].Len(), want[i].Len())
			}
		}
	})
}

func TestDiskSpaceIsGivenBack(t *testing.T) {
	d := newDriver(t, &memory{wrote: make(chan struct{}, 1)})
	dir := t.TempDir()
	out, _ := open(t, d, awslogs(dir))
	line := strings.Repeat("x", 1000) + "\n"
	for range 8 << 10 {
		out.WriteString(line)
	}
	raw := filepath.Join(dir, "stdout")
	deadline := time.Now().Add(10 * time.Second)
	for {
		var st syscall.Stat_t
		if err := syscall.Stat(raw, &st); err != nil {
			t.Fatal(err)
		}
		if st.Size == 8<<10*1001 && st.Blocks*512 < 256<<10 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes of %d are still on the disk (does the file system punch holes?)", st.Blocks*512, st.Size)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func TestABoundFollowsTheOptions(t *testing.T) {
	for _, c := range []struct {
		driver  types.LogDriver
		options map[string]string
		want    bound.Bound
	}{
		{types.LogDriverAwslogs, map[string]string{"awslogs-group": "g"}, bound.Bound{Bytes: 256 << 20}},
		{types.LogDriverAwslogs, map[string]string{"awslogs-group": "g", "mode": "blocking", "max-buffer-size": "2m"},
			bound.Bound{Bytes: 256 << 20, Blocking: true}},
		{types.LogDriverAwslogs, map[string]string{"awslogs-group": "g", "mode": "non-blocking", "max-buffer-size": "25m"},
			bound.Bound{Bytes: 25 << 20}},
		{types.LogDriverAwslogs, map[string]string{"awslogs-group": "g", "max-buffer-size": "4k"}, bound.Bound{Bytes: bound.Least}},
		{types.LogDriverJsonFile, nil, bound.Bound{Bytes: 100 << 20}},
		{types.LogDriverJsonFile, map[string]string{"max-size": "3m", "max-file": "2", "mode": "blocking"},
			bound.Bound{Bytes: 6 << 20, Blocking: true}},
	} {
		files, err := newDriver(t, &memory{}).Open(t.Context(), agent.LogSpec{ID: "x", Dir: t.TempDir(),
			Config: &types.LogConfiguration{LogDriver: c.driver, Options: c.options}})
		if err != nil || files.Bound != c.want {
			t.Errorf("%s %v: %+v (%v), want %+v", c.driver, c.options, files.Bound, err, c.want)
		}
	}
}

func TestLossesOfTheShimAreSaid(t *testing.T) {
	var said bytes.Buffer
	d := New(Config{Sink: &memory{}, Log: slog.New(slog.NewTextHandler(&said, nil))})
	spec := awslogs(t.TempDir())
	out, _ := open(t, d, spec)
	fmt.Fprintln(out, "line")
	if err := os.WriteFile(filepath.Join(spec.Dir, bound.Dropped), []byte(`{"lines":1234,"bytes":99999}`), 0o600); err != nil {
		t.Fatal(err)
	}
	finish(t, d)
	d.Close()
	if !strings.Contains(said.String(), "lines=1234 bytes=99999") {
		t.Errorf("the log says %s", said.String())
	}
}

func TestOverlongLinesAreCutAtRunes(t *testing.T) {
	sink := &memory{}
	d := newDriver(t, sink)
	out, _ := open(t, d, awslogs(t.TempDir()))
	long := strings.Repeat("日本語", 100_000)
	fmt.Fprintln(out, long)
	finish(t, d)
	got := sink.all()
	if len(got) < 2 || strings.Join(got, "") != long {
		t.Errorf("%d pieces, %d bytes", len(got), len(strings.Join(got, "")))
	}
}

func TestPartialLineIsFlushedAfterAWhile(t *testing.T) {
	sink := &memory{wrote: make(chan struct{}, 1)}
	d := newDriver(t, sink)
	out, _ := open(t, d, awslogs(t.TempDir()))
	fmt.Fprint(out, "password: ")
	select {
	case <-sink.wrote:
	case <-time.After(10 * time.Second):
		t.Fatal("a prompt is never shown")
	}
}
