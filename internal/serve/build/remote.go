package build

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Path and Protocol are how a client on another machine reaches the builder: a request on the API's port that upgrades its connection to
// BuildKit's own protocol.
const (
	Path     = "/_berth/build"
	Protocol = "buildkit"
)

// Remote answers requests for Path. Admit decides by the registry's password; Dial reaches a Server.
type Remote struct {
	Admit func(password string) error
	Dial  func(context.Context) (net.Conn, error)
	Log   *slog.Logger
}

// ServeHTTP implements http.Handler.
func (h *Remote) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.Header.Get("Upgrade") != Protocol {
		http.Error(w, "this is the builder: berth build speaks to it", http.StatusBadRequest)
		return
	}
	if _, password, _ := r.BasicAuth(); h.Admit(password) != nil {
		http.Error(w, "a build runs commands on this machine: the key of its owner is needed", http.StatusForbidden)
		return
	}
	builder, err := h.Dial(r.Context())
	if err != nil {
		http.Error(w, "this Berth has no builder; berth up --runtime containerd has one", http.StatusServiceUnavailable)
		return
	}
	defer builder.Close()
	client, in, err := http.NewResponseController(w).Hijack()
	if err != nil {
		h.Log.Error("cannot take over a build's connection", "error", err)
		return
	}
	defer client.Close()
	_ = client.SetDeadline(time.Time{})
	if _, err := fmt.Fprintf(client, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", Protocol); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(client, builder) // ends when either side is closed
		client.Close()
	}()
	_, _ = io.Copy(builder, in)
	builder.Close()
	<-done
}
