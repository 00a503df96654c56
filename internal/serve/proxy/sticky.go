package proxy

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"
)

// The cookies of an ALB: which target, and which of a rule's groups, a client was given.
const (
	targetCookie = "AWSALB"
	groupCookie  = "AWSALBTG"
)

func cookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

func stick(h http.Header, name, value string, until time.Time) {
	c := http.Cookie{Name: name, Value: value, Path: "/", Expires: until}
	h.Add("Set-Cookie", c.String())
}

// groupMark is what the cookie calls a group; it says nothing about it.
func groupMark(arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// destination is the group that a request goes to: the one that the client has, or one by weight.
func (a *Action) destination(r *http.Request) string {
	if a.Sticky > 0 {
		if mark := cookie(r, groupCookie); mark != "" {
			for _, w := range a.Forward {
				if w.Weight > 0 && groupMark(w.Group) == mark {
					return w.Group
				}
			}
		}
	}
	return choose(a.Forward)
}
