package console

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// Bounds of one viewer: a browser's tab.
const (
	maxViewers  = 256
	maxSubs     = 64
	maxMessage  = 64 << 10
	helloWithin = 10 * time.Second
	writeWithin = 15 * time.Second
	beatEvery   = 4 * time.Second // so that the browser notices within 10 s that nothing comes any more
	readWithin  = 90 * time.Second
)

// viewer is one WebSocket.
type viewer struct {
	s      *Console
	conn   *websocket.Conn
	row    *model.ConsoleSession
	caller wire.Caller
	ctx    context.Context
	cancel context.CancelFunc
	notice chan struct{} // holds one: there is something to send
	out    chan message  // of log tails and errors: who writes waits while the browser is slow

	mu    sync.Mutex
	subs  map[int]*sub
	tails map[int]context.CancelFunc
}

// upgrader takes a page of the console's own origin only.
var upgrader = websocket.Upgrader{EnableCompression: true, ReadBufferSize: 4 << 10, WriteBufferSize: 16 << 10, HandshakeTimeout: helloWithin,
	CheckOrigin: sameOrigin, Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
		http.Error(w, reason.Error(), status)
	}}

// sameOrigin demands an Origin that is the request's own host: browsers always send it with an upgrade.
func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "http://"+r.Host || origin == "https://"+r.Host
}

// ask is what a browser sends.
type ask struct {
	Key   string `json:"key,omitempty"` // first of all
	Sub   int    `json:"sub,omitempty"`
	Unsub int    `json:"unsub,omitempty"`
	Beat  bool   `json:"beat,omitempty"`
	want
}

// want is a topic with its parameters.
type want struct {
	Topic   string   `json:"topic"`
	Cluster string   `json:"cluster,omitempty"`
	Service string   `json:"service,omitempty"`
	Node    string   `json:"node,omitempty"`
	ID      string   `json:"id,omitempty"`
	Groups  []string `json:"groups,omitempty"`
	Stream  string   `json:"stream,omitempty"` // what a stream's name contains
	Filter  string   `json:"filter,omitempty"`
	From    int64    `json:"from,omitempty"` // Unix milliseconds
	To      int64    `json:"to,omitempty"`
	Before  string   `json:"before,omitempty"` // a line's place: older lines
}

// live is the WebSocket. It needs the cookie with the upgrade, and the key as the first message.
func (s *Console) live(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	full := len(s.leaves) >= maxViewers
	s.mu.Unlock()
	if full {
		s.fail(w, http.StatusServiceUnavailable, model.Errorf("TooManyViewers", "%d tabs of the console are open. Close some.", maxViewers))
		return
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it was answered
	}
	ctx, cancel := context.WithCancel(s.hub.ctx)
	v := &viewer{s: s, conn: conn, ctx: ctx, cancel: cancel, notice: make(chan struct{}, 1), out: make(chan message, 4), subs: map[int]*sub{}, tails: map[int]context.CancelFunc{}}
	defer v.close()
	conn.SetReadLimit(maxMessage)
	_ = conn.SetCompressionLevel(1) // a level that there is
	_ = conn.SetReadDeadline(time.Now().Add(helloWithin))
	var hello ask
	if conn.ReadJSON(&hello) != nil {
		return
	}
	if v.row = s.session(r, hello.Key); v.row == nil {
		v.refuse()
		return
	}
	v.caller = callerOf(v.row, s.c.Scope.Region)
	s.mu.Lock()
	s.leaves[v] = struct{}{}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { defer close(done); defer cancel(); v.write() }()
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	v.read()
	cancel()
	<-done
}

// Close codes of the WebSocket.
const closeNotLoggedIn = 4401

func (v *viewer) refuse() {
	_ = v.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(closeNotLoggedIn, "not logged in"), time.Now().Add(time.Second))
	_ = v.conn.Close()
}

func (v *viewer) close() {
	v.cancel()
	v.s.mu.Lock()
	delete(v.s.leaves, v)
	v.s.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	for id := range v.subs {
		v.s.hub.drop(v.subs[id])
	}
	v.subs = nil
	_ = v.conn.Close()
}

// recheck ends a viewer whose session has ended.
func (v *viewer) recheck() {
	var row *model.ConsoleSession
	v.s.c.Store.View(func(r store.Reader) { row, _ = store.ConsoleSessions.Get(r, v.row.ID) })
	if row == nil || over(row, v.s.c.Now()) {
		go v.refuse()
		return
	}
}

func (v *viewer) tell() {
	select {
	case v.notice <- struct{}{}:
	default:
	}
}

// read takes what the browser asks for until it is gone.
func (v *viewer) read() {
	for {
		_ = v.conn.SetReadDeadline(time.Now().Add(readWithin))
		var a ask
		if err := v.conn.ReadJSON(&a); err != nil {
			if _, syntax := err.(*json.SyntaxError); syntax {
				continue
			}
			return
		}
		switch {
		case a.Beat:
			v.s.note(v.ctx, v.row)
		case a.Unsub != 0:
			v.unsubscribe(a.Unsub)
		case a.Sub != 0:
			if err := v.subscribe(a.Sub, a.want); err != nil {
				refused := refusalOf(err)
				v.send(message{Sub: a.Sub, Error: &refused})
			}
		}
	}
}

func (v *viewer) send(m message) bool {
	select {
	case v.out <- m:
		return true
	case <-v.ctx.Done():
		return false
	}
}

func (v *viewer) unsubscribe(id int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if one := v.subs[id]; one != nil {
		v.s.hub.drop(one)
		delete(v.subs, id)
	}
	if stop := v.tails[id]; stop != nil {
		stop()
		delete(v.tails, id)
	}
}

func (v *viewer) subscribe(id int, w want) error {
	v.unsubscribe(id)
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.subs)+len(v.tails) >= maxSubs {
		return model.Errorf("TooManySubscriptions", "A tab watches %d things at most.", maxSubs)
	}
	if err := v.s.allowed(v.caller, w); err != nil {
		return err
	}
	if tail := v.s.tail(w); tail != nil {
		ctx, stop := context.WithCancel(v.ctx)
		v.tails[id] = stop
		go func() {
			if err := tail(ctx, func(m message) bool { m.Sub = id; return v.send(m) }); err != nil && ctx.Err() == nil {
				refused := refusalOf(err)
				v.send(message{Sub: id, Error: &refused})
			}
		}()
		return nil
	}
	src, err := v.s.source(w, v.row)
	if err != nil {
		return err
	}
	name, _ := json.Marshal(w) // strings and numbers
	if w.Topic == "sessions" {
		name = append(name, v.row.ID...)
	}
	v.subs[id] = v.s.hub.add(v, id, string(name), src)
	return nil
}

// write sends what there is to send, and a beat when there is nothing.
func (v *viewer) write() {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	hello := map[string]any{"hello": map[string]any{"version": v.s.c.Version, "account": v.s.c.Scope.Account, "region": v.s.c.Scope.Region, "caller": v.caller.ARN,
		"registry": v.s.c.Registry, "now": v.s.c.Now().UnixMilli()}}
	if !v.put(hello) {
		return
	}
	for {
		select {
		case <-v.ctx.Done():
			return
		case m := <-v.out:
			if !v.put(m) {
				return
			}
		case <-v.notice:
			if !v.flush() {
				return
			}
			beat.Reset(beatEvery)
		case <-beat.C:
			if !v.put(map[string]any{"beat": v.s.c.Now().UnixMilli()}) {
				return
			}
		}
	}
}

// flush sends what changed of each subscription.
func (v *viewer) flush() bool {
	v.mu.Lock()
	all := make([]*sub, 0, len(v.subs))
	for _, one := range v.subs {
		all = append(all, one)
	}
	v.mu.Unlock()
	for _, one := range all {
		if m, ok := v.s.hub.take(one); ok && !v.put(m) {
			return false
		}
	}
	return true
}

func (v *viewer) put(m any) bool {
	_ = v.conn.SetWriteDeadline(time.Now().Add(writeWithin))
	return v.conn.WriteJSON(m) == nil
}
