package beat

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// ServerConfig is what a server's half needs.
type ServerConfig struct {
	// Age is how long ago this server was last in contact with the leader, at most; nil: it is the leader.
	Age func() time.Duration
	// OnBye is told of a node whose machine shuts down, at once and perhaps several times. It must not block. May be nil.
	OnBye func(ID)
	// Now has a monotonic clock; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Heard is what a server knows of a node's life, since the server began.
type Heard struct {
	Last   time.Time // when the last beat came that counted; zero: never
	Agent  time.Time // when the node's agent last answered a probe
	Keeper time.Time // when its keeper did
	Boot   uint64    // of the last beat
	Epoch  uint32    // of the last beat
	Health Health    // of the last beat
	// Pause is the longest time for which the machine stood still in the last ten minutes, by its own timers or because its clock did.
	Pause time.Duration
	// Clone is when another machine of the same id beat last, while this one did.
	Clone time.Time
}

// Server is a server's half. It knows the nodes that it was told of, and hears no others.
type Server struct {
	c      ServerConfig
	secret *signer // of cookies
	began  time.Time

	mu      sync.Mutex
	socket  Socket
	period  time.Duration
	records map[ID]*record
}

// record is what is known of one node.
type record struct {
	Heard
	signer     *signer
	from       netip.AddrPort // of its last beat; before, where it is said to be
	generation uint32         // how many boots were taken in
	seq        uint64         // of the last beat that counted
	cookie     uint64
	nonce      uint64 // of the last probe
	stalls     pauses // of machines whose clock stood still too
}

// NewServer makes a server's half. Now and Log may be left out.
func NewServer(c ServerConfig) *Server {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	var key Key
	_, _ = rand.Read(key[:]) // never fails
	return &Server{c: c, secret: newSigner(key), began: c.Now(), period: timeouts.Beat, records: map[ID]*record{}}
}

func (s *Server) use(socket Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.socket = socket
}

// SetPeriod sets the time between two beats of a node, which it learns with the next answer.
func (s *Server) SetPeriod(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.period = d
}

// Put takes in a node, or what has changed of it. at is where it is probed until it has beaten; it may be the zero one.
func (s *Server) Put(id ID, k Key, at netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if r == nil {
		r = &record{from: at}
		s.records[id] = r
	}
	if r.Last.IsZero() {
		r.from = at
	}
	r.signer = newSigner(k)
}

// Drop forgets a node: its beats are heard no more.
func (s *Server) Drop(id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, id)
}

// Heard is what is known of a node; false for one that nobody told of.
func (s *Server) Heard(id ID) (Heard, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if r == nil {
		return Heard{}, false
	}
	return r.Heard, true
}

// Each calls f with every node, in no order, and holds up the beats meanwhile.
func (s *Server) Each(f func(ID, *Heard)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.records {
		f(id, &r.Heard)
	}
}

// Probe asks a node whether it lives: itself, and by way of the others, which are nodes too. The answer is in Heard.
func (s *Server) Probe(id ID, others []ID) {
	out := s.probes(id, others)
	s.mu.Lock()
	socket := s.socket
	s.mu.Unlock()
	if socket != nil && len(out) > 0 {
		socket.Write(out)
	}
}

func (s *Server) probes(id ID, others []ID) []Datagram {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[id]
	if r == nil || !r.from.IsValid() {
		return nil
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	r.nonce = binary.BigEndian.Uint64(b[:])
	direct := Datagram{Addr: r.from, N: Size}
	r.signer.seal(&packet{kind: kindProbe, node: id, seq: r.nonce}, direct.Data[:Size])
	out := []Datagram{direct}
	for _, other := range others {
		h := s.records[other]
		if h == nil || other == id || !h.from.IsValid() {
			continue
		}
		d := Datagram{Addr: h.from, N: askSize}
		copy(d.Data[Size:], direct.Data[:Size])
		h.signer.seal(&packet{kind: kindAsk, node: other, to: r.from}, d.Data[:])
		out = append(out, d)
	}
	return out
}

// take hears what came and appends the answers.
func (s *Server) take(in, out []Datagram) []Datagram {
	now, age := s.c.Now(), time.Duration(0)
	if s.c.Age != nil {
		age = s.c.Age()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range in {
		p, err := parse(in[i].body())
		if err != nil || p.kind != kindBeat && p.kind != kindLive {
			continue
		}
		r := s.records[p.node]
		if r == nil || !r.signer.check(in[i].body()) {
			continue
		}
		if p.kind == kindLive {
			r.answered(&p, now)
			continue
		}
		answer := packet{kind: kindAnswer, node: p.node, slot: p.slot, epoch: p.epoch, seq: p.seq, age: age, period: s.period}
		if !s.hear(r, &p, now, &answer) {
			continue
		}
		if answer.health == 0 {
			r.from = in[i].Addr
		}
		out = append(out, Datagram{Addr: in[i].Addr, N: Size})
		r.signer.seal(&answer, out[len(out)-1].Data[:Size])
	}
	return out
}

// notCounted is the health of an answer to a beat that did not count: the node is to beat again, with the answer's cookie.
const notCounted Health = 1

// hear counts a beat, or asks for one that carries the cookie of its boot; false when neither: it is an old one.
func (s *Server) hear(r *record, p *packet, now time.Time, answer *packet) bool {
	if r.generation == 0 || p.boot != r.Boot {
		answer.cookie = s.cookieOf(p, r.generation+1)
		if p.cookie != answer.cookie {
			answer.health = notCounted
			return true
		}
		if r.generation > 0 && now.Sub(r.Last) < timeouts.BeatClone { // no machine boots so fast: there are two
			r.Clone = now
			return false
		}
		r.generation++
		r.Boot, r.cookie, r.seq = p.boot, answer.cookie, 0
	}
	answer.cookie = r.cookie
	if p.cookie != r.cookie {
		answer.health = notCounted
		return true
	}
	if p.seq <= r.seq {
		return false
	}
	if gap := now.Sub(r.Last); r.seq > 0 {
		// A cut makes a gap for which the node's clock went on, and says nothing of the machine.
		if stood := gap - time.Duration(p.seq-r.seq)*time.Microsecond; stood > timeouts.BeatStood {
			r.stalls.note(now.Sub(s.began), gap)
		}
	}
	r.seq = p.seq
	r.Last, r.Epoch, r.Health = now, p.epoch, p.health
	r.Pause = max(time.Duration(p.pause)*pauseUnit, r.stalls.longest(now.Sub(s.began)))
	if p.health&Bye != 0 && s.c.OnBye != nil {
		s.c.OnBye(p.node)
	}
	return true
}

// cookieOf is what this run of the server gives to a boot of a node, if it becomes the generation-th.
func (s *Server) cookieOf(p *packet, generation uint32) uint64 {
	var b [Size]byte
	copy(b[8:], p.node[:])
	binary.BigEndian.PutUint64(b[24:], p.boot)
	binary.BigEndian.PutUint32(b[32:], generation)
	return binary.BigEndian.Uint64(s.secret.of(b[:])) | 1 // never 0, which is none
}

// answered notes the answer to the last probe.
func (r *record) answered(p *packet, now time.Time) {
	switch {
	case r.nonce == 0 || p.seq != r.nonce:
	case p.health&Away != 0:
		r.Keeper = now
	default:
		r.Agent = now
	}
}
