package registry

import (
	"cmp"
	"net/http"
	"strings"
)

// tokenPath is where clients that were challenged for a Bearer token get one for their Basic credentials.
const tokenPath = "/v2/token"

// credentials are what a request logs in with: Basic AWS:<token>, or the token alone as a Bearer's.
func credentials(req *http.Request) (user, password string, ok bool) {
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") && token != "" && req.URL.Path != tokenPath {
		return "AWS", strings.TrimSpace(token), true
	}
	return req.BasicAuth()
}

// challenge asks a client to log in, in both ways that clients know (RFC 7235; distribution's token specification).
func challenge(w http.ResponseWriter, req *http.Request) {
	scheme := "http"
	if req.TLS != nil || req.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	h := w.Header()
	h.Set("Www-Authenticate", `Basic realm="Berth",service="ecr.amazonaws.com"`)
	if req.URL.Path != tokenPath {
		h.Add("Www-Authenticate", `Bearer realm="`+scheme+`://`+req.Host+tokenPath+`",service="ecr.amazonaws.com"`)
	}
}

// serveToken gives back the token that the request logged in with: it is the Bearer's.
func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request, _ []string) error {
	_, password, _ := credentials(req)
	return writeJSON(w, "application/json", map[string]any{"token": cmp.Or(password, "none"), "access_token": password})
}
