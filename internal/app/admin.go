package app

import (
	"io"
	"net/http"
	"strings"

	"github.com/berthdev/berth/internal/peer"
)

// pathAdmin is where other servers hand on what was asked on their admin sockets and changes something.
const pathAdmin = "/v1/admin"

// anywhere answers on this server's admin socket: what changes something is handed to the leader, if that is another.
func (s *server) anywhere(own http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := s.office()
		if r.Method == http.MethodGet || o.Here || o.Address == "" || strings.HasPrefix(r.URL.Path, "/servers/") {
			own.ServeHTTP(w, r)
			return
		}
		ask, err := http.NewRequestWithContext(r.Context(), r.Method, "http://server"+pathAdmin+r.URL.RequestURI(), r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		res, err := s.port.client(o.Address).Do(ask)
		if err != nil {
			http.Error(w, "the leader does not answer: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		defer res.Body.Close()
		w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
		w.WriteHeader(res.StatusCode)
		_, _ = io.Copy(w, res.Body) // who has gone asks again
	})
}

// serveAdminFor answers other servers' admin sockets.
func (s *server) serveAdminFor(p *peer.Server) {
	p.Handle(pathAdmin+"/", peer.Servers, http.StripPrefix(pathAdmin, s.admin))
}
