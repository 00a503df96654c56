package app

import (
	"context"
	"net"
	"time"

	"github.com/berthdev/berth/internal/console"
)

// openConsole makes the web console, which the leader serves beside the API.
func (s *server) openConsole(ctx context.Context) {
	hosts := []string{hostname()}
	if host, _, err := net.SplitHostPort(s.in.Listen); err == nil && host != "" {
		hosts = append(hosts, host)
	}
	s.console = console.New(ctx, console.Config{Store: s.store, API: s.endpoint, Keys: s.keys, Access: s.endpoint.Access, Logs: s.homeRegion.lines, Metrics: s.series,
		Scope: s.in.Scope(), Version: s.version, Registry: s.in.RegistryHost(), Hosts: hosts, Now: time.Now, Log: s.log.With("component", "console")})
}

// consoleLink is the console's address, which logs in whoever opens it first within a minute.
func (s *server) consoleLink() string {
	host, port, err := net.SplitHostPort(s.in.Listen)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	at := "http://" + net.JoinHostPort(host, port)
	keyID, _ := s.keys.Root()
	_, caller, err := s.keys.Secret(keyID, "")
	if err != nil || !s.leads() {
		return at + console.Path + "   (berth console prints a link that logs in)"
	}
	return at + s.console.Link(caller) + "   (logs in once, for a minute; berth console prints another)"
}
