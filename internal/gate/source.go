package gate

import (
	"net/http"
	"net/netip"
)

// Source is whom a request counts against in a Budget: its address, or the /64 of it, as connections do in a Gate.
func Source(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return sourceOfAddr(at.Addr()).String()
}
