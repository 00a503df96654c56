package proxy

import (
	"encoding/hex"
	"math/rand/v2"
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
	in, how := viaHTTP{pr.In}, p.balancer.ForwardedFor
	switch prior := pr.In.Header["X-Forwarded-For"]; {
	case how.Remove:
	case how.Preserve:
		if prior != nil {
			h["X-Forwarded-For"] = prior
		}
	default:
		if value := appendForwardedFor(nil, in, how); len(value) > 0 {
			h["X-Forwarded-For"] = []string{string(value)}
		}
	}
	h["X-Forwarded-Proto"] = []string{"http"}
	h["X-Forwarded-Port"] = []string{strconv.Itoa(p.port)}
	h["X-Amzn-Trace-Id"] = []string{traced(h["X-Amzn-Trace-Id"], string(appendTraceID(nil, f.proxy.Now())))}
}

// appendForwardedFor writes the value of X-Forwarded-For that a target gets when it is neither removed nor preserved: what the client
// said, and the client; nothing of a request without a connection.
func appendForwardedFor(to []byte, r request, how ForwardedFor) []byte {
	from := r.client()
	if !from.IsValid() {
		return to
	}
	for i := 0; ; i++ {
		prior, ok := r.value("X-Forwarded-For", i)
		if !ok {
			break
		}
		to = append(append(to, prior...), ", "...)
	}
	if how.ClientPort {
		return from.AppendTo(to)
	}
	return from.Addr().AppendTo(to)
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

// appendTraceID makes the value of a field of X-Amzn-Trace-Id: "1-<seconds>-<24 digits>", all hexadecimal. It is no secret.
func appendTraceID(to []byte, now time.Time) []byte {
	var b [16]byte
	seconds, high, low := uint32(now.Unix()), rand.Uint64(), rand.Uint32()
	for i := range 4 {
		b[i], b[12+i] = byte(seconds>>(24-8*i)), byte(low>>(8*i))
	}
	for i := range 8 {
		b[4+i] = byte(high >> (8 * i))
	}
	to = append(to, "1-"...)
	to = append(hex.AppendEncode(to, b[:4]), '-')
	return hex.AppendEncode(to, b[4:])
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
	if res.StatusCode != http.StatusSwitchingProtocols {
		p.part(res.Header)
	}
	if c := p.targetCookie(f.proxy.Now()); c != "" {
		res.Header.Add("Set-Cookie", c)
	}
	if c := p.groupCookie(f.proxy.Now()); c != "" {
		res.Header.Add("Set-Cookie", c)
	}
	return nil
}

// targetCookie is the Set-Cookie header that keeps the client with the target that answered, "" when its group is not sticky.
func (p *passage) targetCookie(now time.Time) string {
	if age := p.group.stickiness(); age > 0 && p.target != nil {
		return stick(targetCookie, p.target.mark, now.Add(age))
	}
	return ""
}

// groupCookie is targetCookie for the rule's group.
func (p *passage) groupCookie(now time.Time) string {
	if p.stick > 0 {
		return stick(groupCookie, groupMark(p.group.arn), now.Add(p.stick))
	}
	return ""
}
