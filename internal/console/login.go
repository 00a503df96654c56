package console

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
)

// linkLife is how long a login link is good, once.
const linkLife = time.Minute

// links are the login links that nobody has used yet. They are in memory: whoever leads next knows none of them.
type links struct {
	now func() time.Time

	mu   sync.Mutex
	open map[string]link // by the token's hash
}

type link struct {
	caller wire.Caller
	until  time.Time
}

// maxLinks bounds the links that are good at once.
const maxLinks = 1000

func (l *links) make(c wire.Caller) string {
	token, now := secret(), l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, one := range l.open {
		if now.After(one.until) || len(l.open) >= maxLinks {
			delete(l.open, k)
		}
	}
	if l.open == nil {
		l.open = map[string]link{}
	}
	l.open[hash(token)] = link{c, now.Add(linkLife)}
	return token
}

// take uses a link up.
func (l *links) take(token string) (wire.Caller, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one, ok := l.open[hash(token)]
	delete(l.open, hash(token))
	return one.caller, ok && !l.now().After(one.until)
}

// secret is 32 random bytes.
func secret() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// Link makes a login link for a caller: the path and fragment that go after the console's host.
func (s *Console) Link(c wire.Caller) string { return Path + "#login=" + s.links.make(c) }

// makeLink makes a link for whoever signed the request: `berth console` does.
func (s *Console) makeLink(w http.ResponseWriter, r *http.Request) {
	caller, err := s.c.API.Identify(r)
	if err != nil {
		s.fail(w, http.StatusForbidden, err)
		return
	}
	s.answer(w, map[string]any{"path": s.Link(caller), "seconds": int(linkLife.Seconds())})
}

// loginRequest is either a link's token or an access key.
type loginRequest struct{ Token, AccessKeyID, SecretAccessKey, SessionToken string }

// login makes a session of a link or of an access key. Its answer has one half; the other is the cookie.
func (s *Console) login(w http.ResponseWriter, r *http.Request) {
	if !s.limit.admit(peerOf(r)) {
		w.Header().Set("Retry-After", "60")
		s.fail(w, http.StatusTooManyRequests, model.Errorf("TooManyLogins", "Too many logins from here in a minute. Wait one and try again."))
		return
	}
	var in loginRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&in); err != nil {
		s.fail(w, http.StatusBadRequest, model.Errorf("SerializationException", "The login cannot be read."))
		return
	}
	caller, refused := s.whoIs(r, in)
	if refused != nil {
		s.fail(w, http.StatusForbidden, refused)
		return
	}
	id, key, err := s.begin(r, caller)
	if err != nil {
		s.fail(w, http.StatusServiceUnavailable, s.hide("make a session", err))
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: id, Path: "/console", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
		MaxAge: int(sessionMost.Seconds())})
	s.answer(w, map[string]string{"key": key})
}

func (s *Console) whoIs(r *http.Request, in loginRequest) (wire.Caller, *model.Error) {
	if in.Token != "" {
		caller, ok := s.links.take(in.Token)
		if !ok {
			return caller, model.Errorf("LinkUsedOrExpired", "This link was used, or is older than a minute. Run berth console for another.")
		}
		return caller, nil
	}
	if !private(r) {
		return wire.Caller{}, model.Errorf("PlainHTTP", "A secret is not sent in clear over a network. Use TLS, ssh -L 4566:localhost:4566, or berth connect; or run berth console.")
	}
	want, caller, err := s.c.Keys.Secret(in.AccessKeyID, in.SessionToken)
	if err != nil || subtle.ConstantTimeCompare([]byte(want), []byte(in.SecretAccessKey)) != 1 {
		return wire.Caller{}, model.Errorf("WrongKey", "This access key and secret do not belong together, or are not of this Berth.")
	}
	return caller, nil
}

// private tells whether what a request carries was seen by nobody on the way.
func private(r *http.Request) bool {
	ip := net.ParseIP(peerOf(r))
	return r.TLS != nil || ip != nil && ip.IsLoopback()
}

// peerOf is the address that a request came from, without its port.
func peerOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// loginsAMinute bounds the logins from one address, and maxSources the addresses that are remembered.
const (
	loginsAMinute = 5
	maxSources    = 1024
)

// limiter counts logins.
type limiter struct {
	now func() time.Time

	mu    sync.Mutex
	tries map[string][]time.Time
}

func (l *limiter) admit(from string) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tries == nil || len(l.tries) > maxSources {
		l.tries = map[string][]time.Time{}
	}
	var recent []time.Time
	for _, at := range l.tries[from] {
		if now.Sub(at) < time.Minute {
			recent = append(recent, at)
		}
	}
	if len(recent) >= loginsAMinute {
		return false
	}
	l.tries[from] = append(recent, now)
	return true
}
