package proxy

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

// The cookies of an ALB: which target, and which of a rule's groups, a client was given.
const (
	targetCookie = "AWSALB"
	groupCookie  = "AWSALBTG"
)

// cookie is the value of the client's first cookie of that name, "" when there is none.
func cookie(r request, name string) string {
	for i := 0; ; i++ {
		line, ok := r.value("Cookie", i)
		if !ok {
			return ""
		}
		for pair := range strings.SplitSeq(line, ";") {
			if k, v, ok := strings.Cut(pair, "="); ok && strings.TrimSpace(k) == name {
				return strings.Trim(strings.TrimSpace(v), `"`)
			}
		}
	}
}

// stick is the Set-Cookie header that has a client come back with a mark.
func stick(name, mark string, until time.Time) string {
	c := http.Cookie{Name: name, Value: mark, Path: "/", Expires: until}
	return c.String()
}

// groupMark is what the cookie calls a group; it says nothing about it.
func groupMark(arn string) string {
	sum := sha256.Sum256([]byte(arn))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// destination is the group that a request goes to: the one that the client has, or one by weight.
func (a *Action) destination(r request) string {
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
