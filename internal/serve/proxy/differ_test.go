package proxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// recorder is a target that answers with one text and tells each request that it got, without what differs each time.
func recorder(t *testing.T, answer *string, got chan<- string) Target {
	return raw(t, func(c net.Conn, _ int64) {
		defer c.Close()
		for in := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			trace := regexp.MustCompile(`1-[0-9a-f]{8}-[0-9a-f]{24}`)
			for i, v := range req.Header["X-Amzn-Trace-Id"] {
				req.Header["X-Amzn-Trace-Id"][i] = trace.ReplaceAllString(v, "ID")
			}
			req.Header.Set("X-Forwarded-Port", "PORT")
			b, _ := json.Marshal(map[string]any{"method": req.Method, "target": req.RequestURI, "host": req.Host, "header": req.Header,
				"body": string(body), "length": req.ContentLength, "chunked": req.TransferEncoding, "close": req.Close, "error": err != nil})
			got <- string(b)
			if head, _, _ := strings.Cut(*answer, "\r\n\r\n"); req.Method == http.MethodHead {
				io.WriteString(c, head+"\r\n\r\n")
			} else {
				io.WriteString(c, *answer)
			}
		}
	})
}

// Both paths send targets the same requests, and clients the same answers.
func TestBothPathsSayTheSame(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello"
	requests := []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /a%2fb//c/../d;e?x=%zz&y;z=[1]& HTTP/1.1\r\nHost: A.example:8080\r\nUser-Agent: x\r\nAccept: */*\r\naccept: b\r\n\r\n",
		"HEAD /? HTTP/1.1\r\nHost: a\r\n\r\n",
		"DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
		"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Type: t\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Late: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"OWN / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-A, te\r\nX-A: 1\r\nX-B: 2\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n" +
			"TE: trailers, gzip\r\nProxy-Authorization: p\r\nProxy-Authenticate: q\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: b\r\nX-Forwarded-Host: h\r\nX-Forwarded-Proto: https\r\n" +
			"X-Forwarded-Port: 1\r\nForwarded: for=x\r\nX-Real-Ip: y\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For, X-Amzn-Trace-Id, Cookie\r\nX-Forwarded-For: b\r\nX-Amzn-Trace-Id: Root=1\r\nCookie: a=b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX-Amzn-Trace-Id: Root=1;Parent=2\r\nX-Amzn-Trace-Id: Sampled=1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX_under: 1\r\nX.dot: 2\r\nEmpty:\r\nCookie: a=b; AWSALB=x\r\nCookie: c=d\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX-High: \xc3\xa9\r\nX-Tab: a\tb\r\nX-Pad:   c  \r\n\r\n",
		"GET /redirect/%20x?q HTTP/1.1\r\nHost: a:1\r\n\r\n",
		"GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n",
		"HEAD /fixed HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /query?k=v HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /%66ixed HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /header HTTP/1.1\r\nHost: a\r\nx-route: nowhere\r\n\r\n",
		"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: sub.example.com\r\n\r\n",
	}
	answers := []string{ok,
		"HTTP/1.1 201 Created\r\nContent-Type: a/b\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nETag: x\r\nServer: s\r\n\r\n", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nConnection: X-A\r\nX-A: 1\r\nx-frame-options: ALLOW\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
	}
	path := func(s string) []Condition { return []Condition{{Field: "path-pattern", Values: []string{s}}} }
	var answer string
	got := make(chan string, 10)
	target := recorder(t, &answer, got)
	for name, change := range map[string]func(*Balancer, *Group){
		"plain": func(*Balancer, *Group) {},
		"sticky": func(b *Balancer, g *Group) {
			g.Stickiness, b.Listeners[0].Rules[4].Action.Sticky = time.Hour, time.Hour
		},
		"drop":     func(b *Balancer, _ *Group) { b.DropInvalidHeaders, b.ForwardedFor.Remove = true, true },
		"preserve": func(b *Balancer, _ *Group) { b.ForwardedFor.Preserve, b.Listeners[0].HideServer = true, true },
		"headers": func(b *Balancer, _ *Group) {
			b.Listeners[0].Headers = map[string]string{"X-Frame-Options": "DENY", "Server": "us"}
		},
	} {
		var rigs []*rig
		for _, slow := range []bool{false, true} {
			r := newRig(t, model.PaceFast)
			r.proxy.slow = slow
			groups := []Group{unchecked("g", target)}
			table := r.table(groups, Rule{Conditions: path("/redirect/*"), Action: Action{Redirect: &Redirect{Status: 301, Port: "7", Query: "#{query}&x"}}},
				Rule{Conditions: path("/fixed"), Action: fixed("fixed")},
				Rule{Conditions: []Condition{{Field: "query-string", Query: []KeyValue{{"k", "v"}}}}, Action: fixed("query")},
				Rule{Conditions: []Condition{{Field: "http-header", Header: "X-Route", Values: []string{"no*"}}}, Action: forwardTo("unknown")},
				Rule{Action: forwardTo("g")})
			change(&table.Balancers[0], &groups[0])
			table.Groups["g"] = groups[0]
			r.proxy.Apply(table)
			rigs = append(rigs, r)
		}
		for i, request := range requests {
			answer = answers[i%len(answers)]
			if i%2 == 0 {
				answer = ok
			}
			fast, slow := said(t, rigs[0], request, got), said(t, rigs[1], request, got)
			if fast != slow {
				t.Errorf("%s: %q, answered with %q\nfast: %s\nslow: %s", name, request, answer, fast, slow)
			}
		}
	}
}

// said is what the target and the client get.
func said(t *testing.T, r *rig, request string, got <-chan string) string {
	t.Helper()
	conn, in := r.connect()
	defer conn.Close()
	io.WriteString(conn, request)
	method, _, _ := strings.Cut(request, " ")
	res, body, err := reading(t, in, method)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	if res.Header.Get("Date") == "" {
		t.Errorf("%q: no Date", request)
	}
	res.Header.Del("Date")
	for i, c := range res.Header["Set-Cookie"] {
		res.Header["Set-Cookie"][i] = regexp.MustCompile("Expires=[^;]*").ReplaceAllString(c, "")
	}
	if to := res.Header.Get("Location"); to != "" {
		res.Header.Set("Location", strings.ReplaceAll(to, fmt.Sprint(r.port), "PORT"))
	}
	header, _ := json.Marshal(res.Header)
	what := fmt.Sprintln(res.StatusCode, string(header), body, res.ContentLength, res.TransferEncoding, res.Trailer, res.Close)
	select {
	case s := <-got:
		return s + "\n" + what
	default:
		return what
	}
}
