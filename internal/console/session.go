package console

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// A session has two halves. Cookies ignore ports: a container's page at another port of this machine is sent ours by the browser, so the
// cookie alone opens nothing. The key is in the page's own storage, which is bound to the port. Neither is stored, only their hashes.
const (
	cookieName = "berth_console"
	keyHeader  = "X-Console-Key"

	sessionIdle  = 12 * time.Hour
	sessionMost  = 7 * 24 * time.Hour
	sessionNoted = 5 * time.Minute // how often its use is written
	maxSessions  = 1000
)

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// begin makes a session and returns its halves. The oldest make room when there are too many.
func (s *Console) begin(r *http.Request, c wire.Caller) (id, key string, err error) {
	id, key = secret(), secret()
	now := s.c.Now()
	row := &model.ConsoleSession{ID: hash(id), KeyHash: hash(key), Account: c.Account, ARN: c.ARN, UserID: c.UserID, AccessKeyID: c.AccessKeyID, Grant: c.Grant,
		Agent: bounded(r.UserAgent(), 200), Address: peerOf(r), CreatedAt: now, UsedAt: now}
	err = s.c.Store.Update(r.Context(), func(tx store.Tx) error {
		n, oldest := 0, row
		for old := range store.ConsoleSessions.Scan(tx, "") {
			if over(old, now) {
				store.ConsoleSessions.Delete(tx, old.ID)
				continue
			}
			n++
			if old.UsedAt.Before(oldest.UsedAt) {
				oldest = old
			}
		}
		if n >= maxSessions {
			store.ConsoleSessions.Delete(tx, oldest.ID)
		}
		store.ConsoleSessions.Put(tx, row)
		return nil
	})
	return id, key, err
}

func over(row *model.ConsoleSession, now time.Time) bool {
	return now.Sub(row.UsedAt) > sessionIdle || now.Sub(row.CreatedAt) > sessionMost
}

func bounded(s string, n int) string { return s[:min(n, len(s))] }

// session is the one that a request's cookie and the key belong to; nil: none.
func (s *Console) session(r *http.Request, key string) (row *model.ConsoleSession) {
	c, err := r.Cookie(cookieName)
	if err != nil || key == "" {
		return nil
	}
	s.c.Store.View(func(v store.Reader) { row, _ = store.ConsoleSessions.Get(v, hash(c.Value)) })
	if row == nil || subtle.ConstantTimeCompare([]byte(row.KeyHash), []byte(hash(key))) != 1 || over(row, s.c.Now()) {
		return nil
	}
	s.note(r.Context(), row)
	return row
}

// note writes that a session is used, now and then.
func (s *Console) note(ctx context.Context, row *model.ConsoleSession) {
	now := s.c.Now()
	if now.Sub(row.UsedAt) < sessionNoted {
		return
	}
	err := s.c.Store.Update(ctx, func(tx store.Tx) error {
		if old, ok := store.ConsoleSessions.Get(tx, row.ID); ok {
			used := *old
			used.UsedAt = now
			store.ConsoleSessions.Put(tx, &used)
		}
		return nil
	})
	if err != nil {
		s.c.Log.Debug("the use of a session is not noted", "error", err)
	}
}

func callerOf(row *model.ConsoleSession, region string) wire.Caller {
	return wire.Caller{Account: row.Account, ARN: row.ARN, UserID: row.UserID, AccessKeyID: row.AccessKeyID, Region: region, Grant: row.Grant}
}

// errNoSession is what the browser shows the login for.
var errNoSession = model.Errorf("NotLoggedIn", "You are not logged in, or no longer. Run berth console, or log in with an access key.")

// with has a handler see only requests with both halves of a session.
func (s *Console) with(h func(w http.ResponseWriter, r *http.Request, session *model.ConsoleSession)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		row := s.session(r, r.Header.Get(keyHeader))
		if row == nil {
			s.fail(w, http.StatusUnauthorized, errNoSession)
			return
		}
		h(w, r, row)
	}
}

func (s *Console) logout(w http.ResponseWriter, r *http.Request, row *model.ConsoleSession) {
	if err := s.end(r.Context(), row.ID); err != nil {
		s.fail(w, http.StatusServiceUnavailable, s.hide("end a session", err))
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/console", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	s.answer(w, map[string]bool{"ok": true})
}

// revoke ends another session of the same caller, or any when the caller is the owner.
func (s *Console) revoke(w http.ResponseWriter, r *http.Request, row *model.ConsoleSession) {
	var in struct{ ID string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&in); err != nil {
		s.fail(w, http.StatusBadRequest, model.Errorf("SerializationException", "The request cannot be read."))
		return
	}
	var other *model.ConsoleSession
	s.c.Store.View(func(v store.Reader) {
		for one := range store.ConsoleSessions.Scan(v, in.ID) {
			if len(in.ID) >= shownID {
				other = one
			}
		}
	})
	if other == nil || other.ARN != row.ARN && !owner(row) {
		s.fail(w, http.StatusBadRequest, model.Errorf("NoSuchSession", "There is no such session, or it is not yours."))
		return
	}
	if err := s.end(r.Context(), other.ID); err != nil {
		s.fail(w, http.StatusServiceUnavailable, s.hide("end a session", err))
		return
	}
	s.answer(w, map[string]bool{"ok": true})
}

// shownID is how much of a session's id is shown.
const shownID = 16

func owner(row *model.ConsoleSession) bool {
	return row.ARN == "arn:"+model.Partition+":iam::"+row.Account+":root"
}

func (s *Console) end(ctx context.Context, id string) error {
	err := s.c.Store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		store.ConsoleSessions.Delete(tx, id)
		return nil
	})
	s.hub.recheck()
	return err
}

// hide logs a fault and returns what the browser is told.
func (s *Console) hide(what string, err error) *model.Error {
	s.c.Log.Error("the console cannot "+what, "error", err)
	return model.Errorf("ServiceUnavailable", "Berth cannot %s now; try again.", what)
}
