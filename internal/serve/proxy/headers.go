package proxy

import (
	"encoding/hex"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// rewrite makes the request that a target gets, with the headers that an ALB sets (ELB user guide, "HTTP headers and Application
// Load Balancers"). ReverseProxy has taken out the headers that belong to the connection, and what clients said in X-Forwarded-*.
func (f *forwarder) rewrite(pr *httputil.ProxyRequest) {
	p, out := passageOf(pr.In), pr.Out
	out.Host = pr.In.Host
	out.URL.Scheme, out.URL.Host = "http", "target" // RoundTrip knows the target
	out.URL.RawQuery = pr.In.URL.RawQuery
	h := out.Header
	if p.balancer.DropInvalidHeaders {
		for name := range h {
			if !validName(name) {
				delete(h, name)
			}
		}
	}
	forwardedFor(h, pr.In, p.balancer.ForwardedFor)
	h["X-Forwarded-Proto"] = []string{"http"}
	h["X-Forwarded-Port"] = []string{strconv.Itoa(p.port)}
	h["X-Amzn-Trace-Id"] = []string{traced(h["X-Amzn-Trace-Id"], traceID(f.proxy.Now()))}
}

func forwardedFor(out http.Header, in *http.Request, how ForwardedFor) {
	prior := in.Header["X-Forwarded-For"]
	switch {
	case how.Remove:
		return
	case how.Preserve:
		if prior != nil {
			out["X-Forwarded-For"] = prior
		}
		return
	}
	client := in.RemoteAddr
	if !how.ClientPort {
		host, _, err := net.SplitHostPort(client)
		if err != nil {
			return // ServeHost was given a request without a connection
		}
		client = host
	}
	if len(prior) > 0 {
		client = strings.Join(prior, ", ") + ", " + client
	}
	out["X-Forwarded-For"] = []string{client}
}

// validName holds for header names of letters, digits and hyphens.
func validName(name string) bool {
	for _, c := range []byte(name) {
		if c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return name != ""
}

// maxTrace bounds what is kept of a client's X-Amzn-Trace-Id.
const maxTrace = 7 << 10

// traced is the X-Amzn-Trace-Id that a target gets (ELB user guide, "Request tracing"): a new Root field where there was none, and a
// new Self field where a Root or Self was; what else the client said is kept.
func traced(prior []string, id string) string {
	if len(prior) == 0 {
		return "Root=" + id
	}
	said := strings.Join(prior, ";")
	if len(said) > maxTrace {
		return "Root=" + id
	}
	var rest strings.Builder
	name := "Root="
	for field := range strings.SplitSeq(said, ";") {
		field = strings.TrimSpace(field)
		switch {
		case field == "":
			continue
		case strings.HasPrefix(field, "Self="):
			name = "Self="
			continue
		case strings.HasPrefix(field, "Root="):
			name = "Self="
		}
		rest.WriteString(";")
		rest.WriteString(field)
	}
	return name + id + rest.String()
}

// traceID makes the value of a field of X-Amzn-Trace-Id: "1-<seconds>-<24 digits>", all hexadecimal. It is no secret.
func traceID(now time.Time) string {
	var b [16]byte
	seconds, high, low := uint32(now.Unix()), rand.Uint64(), rand.Uint32()
	for i := range 4 {
		b[i], b[12+i] = byte(seconds>>(24-8*i)), byte(low>>(8*i))
	}
	for i := range 8 {
		b[4+i] = byte(high >> (8 * i))
	}
	id := append(make([]byte, 0, 35), "1-"...)
	id = append(hex.AppendEncode(id, b[:4]), '-')
	return string(hex.AppendEncode(id, b[4:]))
}

// answered adds to a target's answer what the listener and stickiness ask for.
func (f *forwarder) answered(res *http.Response) error {
	p := passageOf(res.Request)
	if p.listener.HideServer {
		res.Header.Del("Server")
	}
	for k, v := range p.listener.Headers {
		res.Header.Set(k, v)
	}
	if age := p.group.stickiness(); age > 0 && p.target != nil {
		stick(res.Header, targetCookie, p.target.mark, f.proxy.Now().Add(age))
	}
	if p.stick > 0 {
		stick(res.Header, groupCookie, groupMark(p.group.arn), f.proxy.Now().Add(p.stick))
	}
	return nil
}

// own sets the headers of an answer that the load balancer gives itself.
func (p *passage) own(w http.ResponseWriter) http.Header {
	h := w.Header()
	if !p.listener.HideServer {
		h.Set("Server", "awselb/2.0")
	}
	for k, v := range p.listener.Headers {
		h.Set(k, v)
	}
	return h
}

// titles are the statuses that the load balancer gives itself, as an ALB words them.
var titles = map[int]string{
	301: "301 Moved Permanently", 302: "302 Found", 405: "405 Not Allowed",
	505: "505 HTTP Version Not Supported", 502: "502 Bad Gateway", 503: "503 Service Temporarily Unavailable", 504: "504 Gateway Time-out",
}

// refuse answers with a status and the page that an ALB makes of it.
func (p *passage) refuse(w http.ResponseWriter, status int) {
	p.own(w)
	page(w, status)
}

func page(w http.ResponseWriter, status int) {
	title := titles[status]
	body := "<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + title + "</h1></center>\r\n</body>\r\n</html>\r\n"
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write([]byte(body)) // fails only when the client is gone
}
