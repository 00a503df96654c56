package logstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/vfs"

	"github.com/berthdev/berth/internal/model"
)

var ctx = context.Background()

var epoch = time.UnixMilli(1_700_000_000_000)

func config() Config {
	return Config{Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return epoch }, SyncInterval: -1}
}

func openDir(t testing.TB, dir string, c Config) *Store {
	t.Helper()
	s, err := Open(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// line makes an event ms milliseconds after the epoch.
func line(ms int, message string) model.LogEvent {
	return model.LogEvent{At: epoch.Add(time.Duration(ms) * time.Millisecond), Message: message}
}

func messages(t testing.TB, s *Store, group string, q Query) (all []string) {
	t.Helper()
	for e, err := range s.Scan(ctx, group, q) {
		ok(t, err)
		all = append(all, e.StreamName+":"+e.Message)
	}
	return all
}

func equal(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func TestRefusals(t *testing.T) {
	s := openDir(t, t.TempDir(), config())
	ok(t, s.CreateGroup(Group{Name: "/ecs/web"}))
	ok(t, s.CreateGroup(Group{Name: "kept", DeletionProtected: true}))
	ok(t, s.CreateStream("/ecs/web", "one"))
	scan := func(group string, q Query) error {
		for _, err := range s.Scan(ctx, group, q) {
			return err
		}
		return nil
	}
	_, noGroup := s.Group("no")
	_, noStream := s.Stream("/ecs/web", "no")
	_, noStreams := s.Streams("no", "", "", 0)
	for name, c := range map[string]struct{ got, want error }{
		"group twice":         {s.CreateGroup(Group{Name: "/ecs/web"}), ErrGroupExists},
		"group's name":        {s.CreateGroup(Group{Name: "a b"}), ErrBadName},
		"empty group name":    {s.CreateGroup(Group{}), ErrBadName},
		"stream twice":        {s.CreateStream("/ecs/web", "one"), ErrStreamExists},
		"stream's name":       {s.CreateStream("/ecs/web", "a:b"), ErrBadName},
		"stream of no group":  {s.CreateStream("no", "one"), ErrNoGroup},
		"delete no group":     {s.DeleteGroup("no"), ErrNoGroup},
		"delete kept group":   {s.DeleteGroup("kept"), ErrProtected},
		"delete no stream":    {s.DeleteStream("/ecs/web", "no"), ErrNoStream},
		"update no group":     {s.UpdateGroup("no", func(*Group) error { return nil }), ErrNoGroup},
		"group":               {noGroup, ErrNoGroup},
		"stream":              {noStream, ErrNoStream},
		"streams":             {noStreams, ErrNoGroup},
		"scan of no group":    {scan("no", Query{}), ErrNoGroup},
		"scan of no stream":   {scan("/ecs/web", Query{Streams: []string{"one", "no"}}), ErrNoStream},
		"write to no group":   {s.Write(ctx, "no", "one", []model.LogEvent{line(0, "")}), ErrNoGroup},
		"write to no stream":  {s.Write(ctx, "/ecs/web", "no", []model.LogEvent{line(0, "")}), ErrNoStream},
		"prefix is no stream": {s.Write(ctx, "/ecs/web", "on", []model.LogEvent{line(0, "")}), ErrNoStream},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

func TestPrepareAnswersAsTheAwslogsDriver(t *testing.T) {
	s := openDir(t, t.TempDir(), config())
	err := s.Prepare(ctx, "/ecs/web", "web/nginx/1", false)
	refusal, is := errors.AsType[*model.TaskError](err)
	const want = "ResourceInitializationError: failed to validate logger args: failed to create Cloudwatch log stream: " +
		"ResourceNotFoundException: The specified log group does not exist."
	if !is || refusal.Error() != want {
		t.Errorf("got %v", err)
	}
	ok(t, s.Prepare(ctx, "/ecs/web", "web/nginx/1", true))
	ok(t, s.Prepare(ctx, "/ecs/web", "web/nginx/1", false)) // again: an agent that restarted
	ok(t, s.Prepare(ctx, "/ecs/web", "web/nginx/2", true))
	streams, err := s.Streams("/ecs/web", "", "", 0)
	if err != nil || len(streams) != 2 {
		t.Errorf("streams %v, %v", streams, err)
	}
	if err := s.Prepare(ctx, "a b", "x", true); err == nil {
		t.Error("a bad name was prepared")
	}
}

func TestListsPageByName(t *testing.T) {
	s := openDir(t, t.TempDir(), config())
	for _, name := range []string{"b", "a/2", "a/1", "a", "c"} {
		ok(t, s.CreateGroup(Group{Name: name}))
		ok(t, s.CreateStream("b", name))
	}
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"", "", 0, []string{"a", "a/1", "a/2", "b", "c"}},
		{"a", "", 0, []string{"a", "a/1", "a/2"}},
		{"a", "a", 1, []string{"a/1"}},
		{"", "a/2", 2, []string{"b", "c"}},
		{"a", "b", 0, nil},
		{"b", "a", 0, []string{"b"}},
	} {
		groups, err := s.Groups(c.prefix, c.after, c.limit)
		ok(t, err)
		streams, err := s.Streams("b", c.prefix, c.after, c.limit)
		ok(t, err)
		var g, st []string
		for _, x := range groups {
			g = append(g, x.Name)
		}
		for _, x := range streams {
			st = append(st, x.Name)
		}
		equal(t, fmt.Sprintf("groups of %+v", c), g, c.want...)
		if c.prefix != "b" { // "b" was made first and has all streams but those made before it
			equal(t, fmt.Sprintf("streams of %+v", c), st, c.want...)
		}
	}
}

func TestStreamRecordsWhatItHolds(t *testing.T) {
	s := openDir(t, t.TempDir(), config())
	ok(t, s.Prepare(ctx, "g", "s", true))
	if st, err := s.Stream("g", "s"); err != nil || st.HasEvents || st.LastIngestion != 0 || st.CreatedAt != epoch.UnixMilli() {
		t.Errorf("new stream %+v, %v", st, err)
	}
	ok(t, s.Write(ctx, "g", "s", []model.LogEvent{line(5, "b"), line(3, "a"), line(5, "c")}))
	st, err := s.Stream("g", "s")
	ok(t, err)
	at := epoch.UnixMilli()
	if !st.HasEvents || st.FirstAt != at+3 || st.LastAt != at+5 || st.LastIngestion != at || st.Next != 3 {
		t.Errorf("stream %+v", st)
	}
	equal(t, "events", messages(t, s, "g", Query{}), "s:a", "s:b", "s:c")
}

func TestDeletedNamesStartAnew(t *testing.T) {
	s := openDir(t, t.TempDir(), config())
	for range 2 {
		ok(t, s.Prepare(ctx, "g", "s", true))
		ok(t, s.Write(ctx, "g", "s", []model.LogEvent{line(0, "x")}))
		equal(t, "events", messages(t, s, "g", Query{}), "s:x")
		ok(t, s.DeleteStream("g", "s"))
		equal(t, "after the stream's deletion", messages(t, s, "g", Query{}))
		ok(t, s.Prepare(ctx, "g", "s", true))
		ok(t, s.Write(ctx, "g", "s", []model.LogEvent{line(0, "y")}))
		ok(t, s.DeleteGroup("g"))
	}
	ok(t, s.CreateGroup(Group{Name: "g"}))
	if streams, err := s.Streams("g", "", "", 0); err != nil || len(streams) != 0 {
		t.Errorf("a new group has %v, %v", streams, err)
	}
}

func TestPowerLossKeepsWhatReturned(t *testing.T) {
	fs := vfs.NewStrictMem()
	c := config()
	c.MinFree = -1
	s, err := open("", c, fs, false)
	ok(t, err)
	ok(t, s.Prepare(ctx, "g", "s", true))
	var want []string
	for i := range 50 {
		ok(t, s.Write(ctx, "g", "s", []model.LogEvent{line(i, fmt.Sprint(i))}))
		want = append(want, fmt.Sprint("s:", i))
	}
	fs.SetIgnoreSyncs(true) // the power fails here: nothing that Close does reaches the disk
	s.Close()
	fs.ResetToSyncedState()
	fs.SetIgnoreSyncs(false)
	s, err = open("", c, fs, false)
	ok(t, err)
	defer s.Close()
	equal(t, "after power loss", messages(t, s, "g", Query{}), want...)
	ok(t, s.Write(ctx, "g", "s", []model.LogEvent{line(0, "again")}))
	equal(t, "numbers go on", messages(t, s, "g", Query{End: epoch.UnixMilli() + 1}), "s:0", "s:again")
}

func TestFullDiskIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir, config())
	ok(t, s.Prepare(ctx, "g", "s", true))
	s.Close()
	c := config()
	c.MinFree = 1 << 60
	s = openDir(t, dir, c)
	if err := s.Write(ctx, "g", "s", []model.LogEvent{line(0, "x")}); !errors.Is(err, ErrDiskFull) {
		t.Errorf("got %v", err)
	}
	ok(t, s.DeleteGroup("g")) // makes room, and so is let through
}

func TestFollowersAreToldAndReleased(t *testing.T) {
	s := openDir(t, t.TempDir(), config())
	ok(t, s.Prepare(ctx, "g", "s", true))
	ok(t, s.Prepare(ctx, "other", "s", true))
	live, stop := context.WithCancel(ctx)
	mine, forever := s.Follow(live, "g"), s.Follow(ctx, "g")
	ok(t, s.Write(ctx, "other", "s", []model.LogEvent{line(0, "x")}))
	select {
	case <-mine:
		t.Error("told of another group")
	default:
	}
	for range 3 {
		ok(t, s.Write(ctx, "g", "s", []model.LogEvent{line(0, "x")}))
	}
	<-mine
	stop()
	for range mine { // ends when it is closed
	}
	<-forever
	s.Close()
	for range forever {
	}
	for range s.Follow(ctx, "g") {
	}
}

func TestClosedStoreRefuses(t *testing.T) {
	s := openDir(t, t.TempDir(), config())
	ok(t, s.Prepare(ctx, "g", "s", true))
	ok(t, s.Close())
	ok(t, s.Close())
	_, group := s.Group("g")
	_, groups := s.Groups("", "", 0)
	_, swept := s.Sweep(epoch)
	var scanned error
	for _, scanned = range s.Scan(ctx, "g", Query{}) {
	}
	write := s.Write(ctx, "g", "s", []model.LogEvent{line(0, "")})
	for _, err := range []error{group, groups, swept, scanned, write} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

func TestWritersShareTheStore(t *testing.T) {
	s := openDir(t, t.TempDir(), Config{Log: slog.New(slog.DiscardHandler), SyncInterval: time.Millisecond})
	ok(t, s.Prepare(ctx, "g", "shared", true))
	const writers, each = 8, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			own := fmt.Sprint("own-", w)
			if err := s.Prepare(ctx, "g", own, true); err != nil {
				t.Error(err)
			}
			for i := range each {
				for _, stream := range []string{own, "shared"} {
					if err := s.Write(ctx, "g", stream, []model.LogEvent{line(i, "x")}); err != nil {
						t.Error(err)
					}
				}
				for _, err := range s.Scan(ctx, "g", Query{Backward: true}) {
					if err != nil {
						t.Error(err)
					}
					break
				}
			}
		})
	}
	wg.Wait()
	if n := len(messages(t, s, "g", Query{Streams: []string{"shared"}})); n != writers*each {
		t.Errorf("%d events, want %d", n, writers*each)
	}
	if n := len(messages(t, s, "g", Query{Prefix: "own-"})); n != writers*each {
		t.Errorf("%d events, want %d", n, writers*each)
	}
}
