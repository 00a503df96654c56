package proxy

import (
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// request is what routing sees of a request, whichever path has read it. What it returns is good until the request ends.
type request interface {
	method() string
	host() string    // as the client said it, with a port or without
	path() string    // decoded
	rawPath() string // as the client encoded it
	query() string   // as the client encoded it
	// value is the i-th header of a name in canonical form.
	value(name string, i int) (string, bool)
	client() netip.AddrPort // not valid when nobody knows
}

// viaHTTP is a request that net/http has read.
type viaHTTP struct{ r *http.Request }

func (v viaHTTP) method() string  { return v.r.Method }
func (v viaHTTP) host() string    { return v.r.Host }
func (v viaHTTP) path() string    { return v.r.URL.Path }
func (v viaHTTP) rawPath() string { return v.r.URL.EscapedPath() }
func (v viaHTTP) query() string   { return v.r.URL.RawQuery }

func (v viaHTTP) value(name string, i int) (string, bool) {
	if all := v.r.Header.Values(name); i < len(all) {
		return all[i], true
	}
	return "", false
}

func (v viaHTTP) client() netip.AddrPort {
	from, err := netip.ParseAddrPort(v.r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// entrance is the listener at a port that takes requests for a host: that of the load balancer which the host names; a request with
// another name goes to the one that has the port to itself, or to the oldest. It is nil when the port has none.
func (l *live) entrance(port int, host string) *entrance {
	all := l.byPort[port]
	if len(all) == 0 {
		return nil
	}
	chosen := &all[0]
	if len(all) > 1 {
		name := hostname(host)
		for i := range all[1:] {
			if strings.EqualFold(all[1+i].balancer.DNSName, name) {
				chosen = &all[1+i]
			}
		}
	}
	return chosen
}

// reply is an answer that the load balancer gives itself. One without a status is none.
type reply struct {
	status                      int
	contentType, location, body string
}

// titles are the statuses that the load balancer gives itself, as an ALB words them.
var titles = map[int]string{
	301: "301 Moved Permanently", 302: "302 Found", 400: "400 Bad Request", 405: "405 Not Allowed",
	431: "431 Request Header Fields Too Large", 502: "502 Bad Gateway", 503: "503 Service Temporarily Unavailable",
	504: "504 Gateway Time-out", 505: "505 HTTP Version Not Supported",
}

// page is a status with the page that an ALB makes of it.
func page(status int) reply {
	title := titles[status]
	return reply{status: status, contentType: "text/html", body: "<html>\r\n<head><title>" + title +
		"</title></head>\r\n<body>\r\n<center><h1>" + title + "</h1></center>\r\n</body>\r\n</html>\r\n"}
}

// own sets the headers of an answer that the load balancer gives itself.
func (p *passage) own(w http.ResponseWriter) {
	h := w.Header()
	if !p.listener.HideServer {
		h.Set("Server", ownServer)
	}
	for k, v := range p.listener.Headers {
		h.Set(k, v)
	}
}

const ownServer = "awselb/2.0"

func (a reply) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	if a.location != "" {
		h.Set("Location", a.location)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body) // fails only when the client is gone
}

// route finds the rule that a request meets. The answer is the load balancer's own, or there is none and p leads to a group.
func (p *passage) route(r request, major int, l *live) reply {
	p.stats.Requests.Add(1)
	switch method := r.method(); {
	case major > 1 && p.balancer.HTTP1Only:
		return page(http.StatusHTTPVersionNotSupported)
	case method == http.MethodTrace || method == http.MethodConnect:
		return page(http.StatusMethodNotAllowed)
	}
	for i := range p.routes {
		if !p.routes[i].matches(r) {
			continue
		}
		switch a := &p.routes[i].action; {
		case a.Fixed != nil:
			return reply{status: a.Fixed.Status, contentType: or(a.Fixed.ContentType, "text/plain") + "; charset=utf-8", body: a.Fixed.Body}
		case a.Redirect != nil:
			own := page(a.Redirect.Status)
			own.location = a.Redirect.location(r, p.port)
			return own
		default:
			p.group, p.stick = l.groups[a.destination(r)], a.Sticky
			return reply{}
		}
	}
	p.stats.Failed.Add(1)
	return page(http.StatusServiceUnavailable)
}

// serve serves a request that net/http has read.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, l *live, in *entrance, port int) {
	way := passage{entrance: in, port: port, stats: l.stats[in.balancer.ARN]}
	if born, ok := r.Context().Value(bornKey{}).(time.Time); p.leaving.Load() || ok && p.aged(born, in.balancer) {
		w.Header().Set("Connection", "close")
	}
	own := way.route(viaHTTP{r}, r.ProtoMajor, l)
	if own.status == 0 {
		p.forward.serve(w, r, &way)
		return
	}
	way.own(w)
	way.stats.own(own.status)
	own.write(w)
}

// aged tells whether a connection is so old that its client is asked to open another one.
func (p *Proxy) aged(born time.Time, b *Balancer) bool {
	return b.ClientKeepAlive > 0 && p.Now().Sub(born) > b.ClientKeepAlive
}
