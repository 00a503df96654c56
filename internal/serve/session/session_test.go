package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/berthdev/berth/internal/execstream"
	"github.com/berthdev/berth/internal/serve/session"
	"github.com/berthdev/berth/internal/serve/session/sessiontest"
)

const patience = 20 * time.Second

// office is a Manager whose commands are played by the test.
type office struct {
	*testing.T
	manager *session.Manager
	server  *httptest.Server
	streams chan net.Conn
	stop    context.CancelFunc

	mu      sync.Mutex
	records []session.Record
	refuse  error
}

func newOffice(t *testing.T) *office {
	o := &office{T: t, streams: make(chan net.Conn, 10)}
	ctx, stop := context.WithCancel(context.Background())
	o.stop = stop
	o.manager = session.New(session.Config{Context: ctx, Note: func(r session.Record) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.records = append(o.records, r)
	}, Open: func(context.Context, string) (net.Conn, error) {
		if o.refuse != nil {
			return nil, o.refuse
		}
		near, far := net.Pipe()
		o.streams <- far
		return near, nil
	}})
	o.server = httptest.NewServer(o.manager)
	t.Cleanup(func() {
		stop()
		o.manager.Close()
		o.server.Close()
	})
	return o
}

func (o *office) url(id string) string {
	return "ws" + strings.TrimPrefix(o.server.URL, "http") + session.Path + id + "?role=publish_subscribe&cell-number=1"
}

func (o *office) create() (id, token string) {
	o.Helper()
	id, token, err := o.manager.Create(session.Spec{Who: "arn:me", Task: "t1", Node: "n1", Container: "web", Command: []string{"/bin/sh"}})
	if err != nil {
		o.Fatal(err)
	}
	return id, token
}

// played is a command's side of its stream.
type played struct {
	r     *execstream.Reader
	w     *execstream.Writer
	c     net.Conn
	begun execstream.Command
}

func (o *office) command() *played {
	o.Helper()
	select {
	case c := <-o.streams:
		p := &played{r: execstream.NewReader(c), w: execstream.NewWriter(c), c: c}
		f, err := p.r.Read()
		if err != nil || f.Kind != execstream.Begin {
			o.Fatalf("began with %+v %v", f, err)
		}
		if err := f.Decode(&p.begun); err != nil {
			o.Fatal(err)
		}
		return p
	case <-time.After(patience):
		o.Fatal("no command was started")
		return nil
	}
}

// echo says back what it is told, until it is told "exit".
func (p *played) echo() {
	for {
		f, err := p.r.Read()
		if err != nil {
			return
		}
		if f.Kind != execstream.Input {
			continue
		}
		if string(f.Data) == "exit" {
			_ = p.w.WriteJSON(execstream.Ended, execstream.Outcome{Code: 4})
			return
		}
		if p.w.Write(execstream.Output, f.Data) != nil {
			return
		}
	}
}

func (o *office) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func TestSession(t *testing.T) {
	o := newOffice(t)
	id, token := o.create()
	if !strings.HasPrefix(id, "ecs-execute-command-") || len(id) != len("ecs-execute-command-")+17 {
		t.Errorf("session id %q", id)
	}
	c := &sessiontest.Client{}
	o.must(c.Dial(o.url(id), token))
	p := o.command()
	if p.begun.Task != "t1" || p.begun.Container != "web" || !p.begun.Terminal || p.begun.Size.Columns != 120 || p.begun.Command[0] != "/bin/sh" {
		t.Errorf("begun %+v", p.begun)
	}
	go p.echo()
	o.must(c.Type("hello"))
	o.must(c.Hear("hello", patience))
	long := strings.Repeat("0123456789abcdef", 8_000)
	go func() {
		for at := 0; at < len(long); at += 1000 {
			_ = c.Type(long[at:min(at+1000, len(long))])
		}
		_ = c.Type("exit")
	}()
	if words, err := c.Ended(patience); err != nil || words != "" {
		t.Fatalf("ended with %q %.80v", words, err)
	}
	if c.Said() != "hello"+long {
		t.Errorf("%d bytes came back of %d", len(c.Said()), len(long)+5)
	}
	o.manager.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.records) != 2 || o.records[0].Ended || !o.records[1].Ended || o.records[1].Code != 4 || o.records[1].Lasted <= 0 || o.records[1].Who != "arn:me" {
		t.Errorf("records %+v", o.records)
	}
}

// TestLossyClient has a client lose a third of what it is sent: each message comes again until it was acknowledged.
func TestLossyClient(t *testing.T) {
	o := newOffice(t)
	id, token := o.create()
	chance := rand.New(rand.NewPCG(1, 2))
	c := &sessiontest.Client{Lose: func(m session.Message) bool { return m.Type == session.TypeOutput && chance.IntN(3) == 0 }}
	o.must(c.Dial(o.url(id), token))
	p := o.command()
	go p.echo()
	var want strings.Builder
	for i := range 20 {
		word := fmt.Sprintf("word-%d ", i)
		want.WriteString(word)
		o.must(c.Type(word))
	}
	o.must(c.Hear("word-19 ", patience))
	if c.Said() != want.String() {
		t.Errorf("said %q", c.Said())
	}
}

// TestResume has a client come back after its connection broke: nothing is lost, nothing comes twice.
func TestResume(t *testing.T) {
	o := newOffice(t)
	id, token := o.create()
	c := &sessiontest.Client{}
	o.must(c.Dial(o.url(id), token))
	p := o.command()
	go p.echo()
	o.must(c.Type("one "))
	o.must(c.Hear("one ", patience))
	c.Drop()
	o.must(p.w.Write(execstream.Output, []byte("meanwhile ")))
	other := &sessiontest.Client{}
	o.must(other.Dial(o.url(id), token))
	if err := other.Hear("one", 300*time.Millisecond); err == nil {
		t.Error("a token was good twice")
	}
	again := o.manager.Resume(id)
	if again == "" || again == token {
		t.Fatalf("resumed with token %q", again)
	}
	o.must(c.Dial(o.url(id), again))
	o.must(c.Hear("meanwhile ", patience))
	o.must(c.Type("two "))
	o.must(c.Hear("two ", patience))
	if c.Said() != "one meanwhile two " {
		t.Errorf("said %q", c.Said())
	}
	o.manager.Terminate(id)
	if words, err := c.Ended(patience); err != nil || !strings.Contains(words, "the session was ended") {
		t.Errorf("terminated with %q %v", words, err)
	}
	o.must(eventually(func() bool { return o.manager.Resume(id) == "" }))
}

// eventually waits for ok, which the end of a goroutine makes true.
func eventually(ok func() bool) error {
	for range 1000 {
		if ok() {
			return nil
		}
		<-time.After(5 * time.Millisecond)
	}
	return errors.New("never")
}

func TestEndsInWords(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*office, *played)
		want string
	}{
		"server":  {func(o *office, _ *played) { o.manager.Close() }, "is being restarted"},
		"context": {func(o *office, _ *played) { o.stop() }, "is being restarted"},
		"node":    {func(_ *office, p *played) { p.c.Close() }, "was lost"},
		"reason": {func(_ *office, p *played) {
			_ = p.w.WriteJSON(execstream.Ended, execstream.Outcome{Reason: "it was idle"})
		}, "it was idle"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			id, token := o.create()
			client := &sessiontest.Client{}
			o.must(client.Dial(o.url(id), token))
			p := o.command()
			go c.end(o, p)
			if words, err := client.Ended(patience); err != nil || !strings.Contains(words, c.want) {
				t.Errorf("%q %v", words, err)
			}
		})
	}
	o := newOffice(t)
	o.refuse = errors.New("no route")
	id, token := o.create()
	client := &sessiontest.Client{}
	o.must(client.Dial(o.url(id), token))
	if words, err := client.Ended(patience); err != nil || !strings.Contains(words, "no route") {
		t.Errorf("unreachable: %q %v", words, err)
	}
}

func TestRefused(t *testing.T) {
	o := newOffice(t)
	if _, res, err := websocket.DefaultDialer.Dial(o.url("ecs-execute-command-nobody"), nil); err == nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("nobody's session: %v %v", res, err)
	}
	id, _ := o.create()
	res, err := http.Get(strings.Replace(o.url(id), "ws", "http", 1))
	if err != nil || res.StatusCode != http.StatusBadRequest {
		t.Errorf("no websocket: %v %v", res, err)
	}
	conn, _, err := websocket.DefaultDialer.Dial(o.url(id), nil)
	o.must(err)
	hello, _ := json.Marshal(session.Greeting{TokenValue: "wrong"})
	o.must(conn.WriteMessage(websocket.TextMessage, hello))
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.ClosePolicyViolation) {
		t.Errorf("a wrong token: %v", err)
	}
	if o.manager.Resume(id) != "" {
		t.Error("a session that nobody began was resumed")
	}
}

// TestPlain is what berth exec does.
func TestPlain(t *testing.T) {
	o := newOffice(t)
	id, token := o.create()
	conn, _, err := websocket.DefaultDialer.Dial(o.url(id), nil)
	o.must(err)
	hello, _ := json.Marshal(session.Greeting{TokenValue: token, ClientVersion: session.Plain + "test"})
	o.must(conn.WriteMessage(websocket.TextMessage, hello))
	say := func(kind execstream.Kind, v []byte) {
		var b bytes.Buffer
		o.must(execstream.NewWriter(&b).Write(kind, v))
		o.must(conn.WriteMessage(websocket.BinaryMessage, b.Bytes()))
	}
	say(execstream.Begin, []byte(`{"Task":"another","Container":"other","Command":["evil"],"Size":{"Columns":9,"Rows":8}}`))
	p := o.command()
	if p.begun.Task != "t1" || p.begun.Container != "web" || p.begun.Command[0] != "/bin/sh" || p.begun.Terminal || p.begun.Size.Rows != 8 {
		t.Errorf("begun %+v", p.begun)
	}
	go p.echo()
	say(execstream.Input, []byte("hi"))
	say(execstream.Input, []byte("exit"))
	var said strings.Builder
	for {
		_, data, err := conn.ReadMessage()
		if err != nil {
			if !websocket.IsCloseError(err, websocket.CloseNormalClosure) && !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		f, err := execstream.NewReader(bytes.NewReader(data)).Read()
		o.must(err)
		said.WriteString(string(f.Kind) + ":" + string(f.Data) + " ")
	}
	if said.String() != `o:hi q:{"Code":4} ` {
		t.Errorf("said %q", said.String())
	}
}
