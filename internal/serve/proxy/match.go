package proxy

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// route is a rule made ready for requests.
type route struct {
	conditions []Condition // with patterns in lower case where case does not matter
	action     Action
}

// newRoute copies what it changes: the rule stays its owner's.
func newRoute(r Rule) route {
	out := route{action: r.Action, conditions: slices.Clone(r.Conditions)}
	for i := range out.conditions {
		c := &out.conditions[i]
		switch c.Field {
		case "host-header", "http-header":
			c.Values = slices.Clone(c.Values)
			for j := range c.Values {
				c.Values[j] = strings.ToLower(c.Values[j])
			}
		case "query-string":
			c.Query = slices.Clone(c.Query)
			for j, q := range c.Query {
				c.Query[j] = KeyValue{strings.ToLower(q.Key), strings.ToLower(q.Value)}
			}
		}
	}
	return out
}

// matches tells whether a request meets every condition.
func (r *route) matches(req request) bool {
	for i := range r.conditions {
		if !r.conditions[i].matches(req) {
			return false
		}
	}
	return true
}

func (c *Condition) matches(req request) bool {
	switch c.Field {
	case "path-pattern":
		return anyFits(c.Values, req.path())
	case "host-header":
		return anyFits(c.Values, strings.ToLower(hostname(req.host())))
	case "http-request-method":
		return slices.Contains(c.Values, req.method())
	case "http-header":
		for i := 0; ; i++ {
			v, ok := req.value(c.Header, i)
			if !ok {
				return false
			}
			if anyFits(c.Values, strings.ToLower(v)) {
				return true
			}
		}
	case "query-string":
		return c.matchesQuery(req.query())
	case "source-ip":
		addr := req.client().Addr()
		return addr.IsValid() && slices.ContainsFunc(c.Sources, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	return false
}

func anyFits(patterns []string, s string) bool {
	for _, p := range patterns {
		if wild(p, s) {
			return true
		}
	}
	return false
}

// matchesQuery reads a query as net/url does: what it can't read is passed over.
func (c *Condition) matchesQuery(query string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" || strings.IndexByte(pair, ';') >= 0 {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		k, err := url.QueryUnescape(k)
		if err != nil {
			continue
		}
		if v, err = url.QueryUnescape(v); err != nil {
			continue
		}
		k, v = strings.ToLower(k), strings.ToLower(v)
		for _, q := range c.Query {
			if (q.Key == "" || wild(q.Key, k)) && wild(q.Value, v) {
				return true
			}
		}
	}
	return false
}

// wild matches * to any text and ? to any one byte, in time that is at most the product of both lengths.
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

// hostname cuts the port off a Host header.
func hostname(hostport string) string {
	i := strings.LastIndexByte(hostport, ':')
	if i < 0 {
		return hostport
	}
	host := hostport[:i]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return host[1 : len(host)-1]
	}
	if strings.IndexByte(host, ':') >= 0 { // an IPv6 address, and no port
		return strings.Trim(hostport, "[]")
	}
	return host
}

// location fills in a redirect's parts (ELB user guide, "Redirect actions"). The port is named even when it is the protocol's own,
// as an ALB does.
func (r *Redirect) location(req request, port int) string {
	fill := strings.NewReplacer("#{protocol}", "http", "#{host}", hostname(req.host()), "#{port}", strconv.Itoa(port),
		"#{path}", strings.TrimPrefix(req.rawPath(), "/"), "#{query}", req.query()).Replace
	protocol, host, to := fill(or(r.Protocol, "#{protocol}")), fill(or(r.Host, "#{host}")), fill(or(r.Port, "#{port}"))
	where := strings.ToLower(protocol) + "://" + net.JoinHostPort(host, to) + fill(or(r.Path, "/#{path}"))
	if query := fill(or(r.Query, "#{query}")); query != "" {
		where += "?" + query
	}
	return where
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
