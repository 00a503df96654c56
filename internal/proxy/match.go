package proxy

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// matches tells whether a request meets every condition.
func (r *Rule) matches(req *http.Request) bool {
	for i := range r.Conditions {
		if !r.Conditions[i].matches(req) {
			return false
		}
	}
	return true
}

func (c *Condition) matches(req *http.Request) bool {
	switch c.Field {
	case "path-pattern":
		return slices.ContainsFunc(c.Values, func(p string) bool { return wild(p, req.URL.Path) })
	case "host-header":
		host := strings.ToLower(hostname(req.Host))
		return slices.ContainsFunc(c.Values, func(p string) bool { return wild(strings.ToLower(p), host) })
	case "http-request-method":
		return slices.Contains(c.Values, req.Method)
	case "http-header":
		for _, v := range req.Header.Values(c.Header) {
			if slices.ContainsFunc(c.Values, func(p string) bool { return wild(strings.ToLower(p), strings.ToLower(v)) }) {
				return true
			}
		}
		return false
	case "query-string":
		return c.matchesQuery(req.URL.Query())
	case "source-ip":
		from, err := netip.ParseAddrPort(req.RemoteAddr)
		return err == nil && slices.ContainsFunc(c.Sources, func(p netip.Prefix) bool { return p.Contains(from.Addr().Unmap()) })
	}
	return false
}

func (c *Condition) matchesQuery(query url.Values) bool {
	for k, values := range query {
		for _, v := range values {
			if slices.ContainsFunc(c.Query, func(q KeyValue) bool {
				return (q.Key == "" || wild(strings.ToLower(q.Key), strings.ToLower(k))) && wild(strings.ToLower(q.Value), strings.ToLower(v))
			}) {
				return true
			}
		}
	}
	return false
}

// wild matches * to any text and ? to any one character, without recursion.
func wild(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func hostname(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return h
	}
	return hostport
}

// location fills in a redirect's parts (ELB user guide, "Redirect actions").
func (r *Redirect) location(req *http.Request, port int) string {
	query := req.URL.RawQuery
	fill := strings.NewReplacer("#{protocol}", "http", "#{host}", hostname(req.Host), "#{port}", fmt.Sprint(port),
		"#{path}", strings.TrimPrefix(req.URL.Path, "/"), "#{query}", query).Replace
	protocol := strings.ToLower(fill(or(r.Protocol, "#{protocol}")))
	host, to := fill(or(r.Host, "#{host}")), fill(or(r.Port, "#{port}"))
	if !(protocol == "http" && to == "80" || protocol == "https" && to == "443") {
		host = net.JoinHostPort(host, to)
	}
	u := url.URL{Scheme: protocol, Host: host, Path: fill(or(r.Path, "/#{path}")), RawQuery: fill(or(r.Query, "#{query}"))}
	return u.String()
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
