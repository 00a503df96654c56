package app

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	logs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/serve/registry"
)

// TestTasksOutliveARestore: a task that was begun after the backup runs on, also when Berth is started anew, until people confirm the state.
func TestTasksOutliveARestore(t *testing.T) {
	t.Parallel()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "b")
	_, client, stop := up(t, dir)
	c := client("us-east-1")
	name := "web"
	if _, err := c.RegisterTaskDefinition(t.Context(), &ecs.RegisterTaskDefinitionInput{Family: &name, ContainerDefinitions: []types.ContainerDefinition{
		{Name: &name, Image: &name, Memory: new(int32(64))}}}); err != nil {
		t.Fatal(err)
	}
	run := func() string {
		var id string
		eventually(t, "no task is placed", func() bool {
			out, err := c.RunTask(t.Context(), &ecs.RunTaskInput{TaskDefinition: &name})
			if err != nil || len(out.Tasks) != 1 {
				return false
			}
			id = (*out.Tasks[0].TaskArn)[strings.LastIndexByte(*out.Tasks[0].TaskArn, '/')+1:]
			return true
		})
		eventually(t, "a task does not run", func() bool {
			out, err := c.DescribeTasks(t.Context(), &ecs.DescribeTasksInput{Tasks: []string{id}})
			return err == nil && len(out.Tasks) == 1 && *out.Tasks[0].LastStatus == "RUNNING"
		})
		return id
	}
	run()
	if err := Backup(t.Context(), dir, file, BackupWhat{}, io.Discard); err != nil {
		t.Fatal(err)
	}
	later := run()
	stop()
	if err := Restore(t.Context(), dir, file, io.Discard); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second start forgets nothing
		_, _, stop = up(t, dir)
		eventually(t, "the later task is not kept", func() bool {
			var now restored
			err := askAdmin(t.Context(), dir, "GET", "/restored", &now)
			return err == nil && now.Unconfirmed && len(now.Nodes) == 1 && len(now.Nodes[0].Kept) == 1 && now.Nodes[0].Kept[0].Task == later
		})
		if _, err := os.Stat(filepath.Join(dir, "tasks", later)); err != nil {
			t.Error(err)
		}
		stop()
	}
	_, _, stop = up(t, dir)
	defer func() { stop() }()
	var said bytes.Buffer
	eventually(t, "it is not asked", func() bool {
		said.Reset()
		err := ConfirmRestore(t.Context(), dir, false, strings.NewReader("no\n"), &said)
		return err != nil && strings.Contains(err.Error(), "nothing was changed")
	})
	if !strings.Contains(said.String(), later) || !strings.Contains(said.String(), "family:web") {
		t.Errorf("it said %q", said.String())
	}
	if err := ConfirmRestore(t.Context(), dir, false, strings.NewReader("yes\n"), &said); err != nil || !strings.Contains(said.String(), "1 tasks stop") {
		t.Errorf("%v, it said %q", err, said.String())
	}
	eventually(t, "the task stays", func() bool {
		return !slices.ContainsFunc(agent.Remembered(filepath.Join(dir, "tasks"), slog.New(slog.DiscardHandler)), func(r agent.RememberedTask) bool {
			return r.Task.ID == later
		})
	})
	said.Reset()
	if err := ConfirmRestore(t.Context(), dir, false, nil, &said); err != nil || !strings.Contains(said.String(), "nothing to confirm") {
		t.Errorf("%v, it said %q", err, said.String())
	}
}

// TestABackupWithImagesAndLogs: all of it is there again, also from a server that is stopped, and a backup that was cut changes nothing.
func TestABackupWithImagesAndLogs(t *testing.T) {
	t.Parallel()
	dir, files := t.TempDir(), t.TempDir()
	in, _, stop := up(t, dir)
	client := func(in *Instance) *logs.Client {
		id, secret, err := iam.ReadRoot(in.RootKey())
		if err != nil {
			t.Fatal(err)
		}
		return logs.New(logs.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://" + in.Listen), Credentials: credentials.NewStaticCredentialsProvider(id, secret, "")})
	}
	lines := func(in *Instance) (all []string) {
		out, err := client(in).GetLogEvents(t.Context(), &logs.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), StartFromHead: aws.Bool(true)})
		if err != nil {
			return []string{err.Error()}
		}
		for _, e := range out.Events {
			all = append(all, *e.Message)
		}
		return all
	}
	say := func(text string) {
		_, err := client(in).PutLogEvents(t.Context(), &logs.PutLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"),
			LogEvents: []logtypes.InputLogEvent{{Message: &text, Timestamp: aws.Int64(time.Now().UnixMilli())}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client(in).CreateLogGroup(t.Context(), &logs.CreateLogGroupInput{LogGroupName: aws.String("g")}); err != nil {
		t.Fatal(err)
	}
	if _, err := client(in).CreateLogStream(t.Context(), &logs.CreateLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s")}); err != nil {
		t.Fatal(err)
	}
	say("kept")
	const digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // hello
	blobs, err := registry.OpenBlobs(filepath.Join(dir, "registry"))
	if err != nil {
		t.Fatal(err)
	}
	u, err := blobs.Upload(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write(strings.NewReader("hello"), -1); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Finish(digest); err != nil {
		t.Fatal(err)
	}
	whole := BackupWhat{Blobs: true, Logs: true}
	running, stopped := filepath.Join(files, "running"), filepath.Join(files, "stopped")
	if err := Backup(t.Context(), dir, running, whole, io.Discard); err != nil {
		t.Fatal(err)
	}
	say("late")
	stop()
	if err := Backup(t.Context(), dir, stopped, whole, io.Discard); err != nil {
		t.Fatal(err)
	}
	cut(t, running, filepath.Join(files, "cut"))
	if err := Restore(t.Context(), filepath.Join(files, "none"), filepath.Join(files, "cut"), io.Discard); err == nil || !strings.Contains(err.Error(), "cut") {
		t.Errorf("a backup that was cut: %v", err)
	}
	if _, err := os.Stat(filepath.Join(files, "none")); err == nil {
		t.Error("it left something")
	}
	for file, want := range map[string][]string{running: {"kept"}, stopped: {"kept", "late"}} {
		to := filepath.Join(files, filepath.Base(file)+".dir")
		if err := Restore(t.Context(), to, file, io.Discard); err != nil {
			t.Fatal(err)
		}
		other, _, stop := up(t, to)
		if got := lines(other); !slices.Equal(got, want) {
			t.Errorf("%s: the lines %q, want %q", file, got, want)
		}
		stop()
		restored, err := registry.OpenBlobs(filepath.Join(to, "registry"))
		if err != nil {
			t.Fatal(err)
		}
		if size, err := restored.Stat(t.Context(), digest); size != 5 || err != nil {
			t.Errorf("%s: the blob: %d %v", file, size, err)
		}
	}
	if err := Restore(t.Context(), dir, running, io.Discard); err != nil { // over what is there
		t.Fatal(err)
	}
	again, _, stop := up(t, dir)
	defer stop()
	if got := lines(again); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("over what was there: %q", got)
	}
}

// cut makes a backup that ends in the middle of the things after its rows, as a gzip stream that is whole.
func cut(t *testing.T, from, to string) {
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(all[:len(all)-40])
	w.Close()
	if err := os.WriteFile(to, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAThingOfABackupStaysInItsPlace: names lead nowhere else.
func TestAThingOfABackupStaysInItsPlace(t *testing.T) {
	in := &Instance{dir: t.TempDir()}
	blobs, err := registry.OpenBlobs(in.Path("registry"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "x", "logs:", "logs:../x", "logs:logs/../../x", "logs:logs/", "logs:logs/..", "logs:etcd/x", "logs:logs.a/b/c", "logs:logs../x", "blob:", "blob:sha256:zz",
		"blob:../../x", "logs:logs.us-east-1\x00/x"} {
		if err := in.unpack(t.Context(), blobs, name, ".restored", strings.NewReader("hello")); err == nil {
			t.Errorf("%q was put somewhere", name)
		}
	}
	if err := in.unpack(t.Context(), blobs, "logs:logs.eu-west-1/000001.sst", ".restored", strings.NewReader("hello")); err != nil {
		t.Error(err)
	}
}

// TestPlannedBackups: one is written when it is due, and the oldest go; files of others stay.
func TestPlannedBackups(t *testing.T) {
	t.Parallel()
	dir, folder := t.TempDir(), t.TempDir()
	if err := PlanBackups(t.Context(), dir, BackupPlan{Dir: folder, Every: time.Second, Keep: 2}, io.Discard); err == nil || !strings.Contains(err.Error(), "a minute or more") {
		t.Errorf("every second: %v", err)
	}
	_, client, stop := up(t, dir)
	defer stop()
	create(t, client("us-east-1"), "kept")
	if err := PlanBackups(t.Context(), dir, BackupPlan{Dir: folder + "/none", Every: time.Hour, Keep: 2}, io.Discard); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("into no folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "berth-other-20200101T000000.backup"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := LoadInstance(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		old := filepath.Join(folder, fmt.Sprintf("berth-%s-2020010%dT000000.backup", in.ID, i+1))
		if err := os.WriteFile(old, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the admin socket does not come", func() bool { // it may come a moment after the API
		_, err := os.Stat(in.adminSocket())
		return err == nil
	})
	if err := PlanBackups(t.Context(), dir, BackupPlan{Dir: folder, Every: time.Hour, Keep: 2}, io.Discard); err != nil {
		t.Fatal(err)
	}
	var own []string
	eventually(t, "no backup is written", func() bool {
		own, _ = filepath.Glob(filepath.Join(folder, "berth-"+in.ID+"-*.backup"))
		return len(own) == 2
	})
	slices.Sort(own)
	if !strings.HasSuffix(own[0], "-20200103T000000.backup") {
		t.Errorf("left: %q", own)
	}
	if _, all, err := readFile(own[1]); err != nil || len(all) == 0 {
		t.Errorf("%d rows, %v", len(all), err)
	}
	if all, _ := filepath.Glob(filepath.Join(folder, "*")); len(all) != 3 {
		t.Errorf("in the folder: %q", all)
	}
	s := &server{in: in}
	if wrote, err := s.backUpBy(context.Background(), BackupPlan{Dir: folder, Every: time.Hour, Keep: 2}, time.Now()); wrote != "" || err != nil {
		t.Errorf("before it is due: %q %v", wrote, err)
	}
}
