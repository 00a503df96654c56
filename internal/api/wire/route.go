package wire

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
)

// route is where an operation of a REST service is found: a method, a template of the path and what the query must hold.
type route struct {
	op       string
	method   string
	segments []segment
	query    url.Values // the template's own parameters
}

// segment is what stands between two slashes of a template.
type segment struct {
	kind segmentKind
	text string // the literal, or the label's name
}

// segmentKind tells what a segment takes. The kinds are in the order in which routes are tried.
type segmentKind int

const (
	literal segmentKind = iota
	label               // {name}: one segment that is not empty
	greedy              // {name+}: one segment or more
)

// routesOf returns the routes of a REST service's operations, each before those that also match what it matches. An operation
// whose schema has no http trait has none.
func routesOf(s *Service) []route {
	var all []route
	operations := slices.Clone(s.Routes)
	for _, o := range s.Schemas {
		operations = append(operations, o.Schema)
	}
	for _, schema := range operations {
		if http, ok := smithy.SchemaTrait[*traits.HTTP](schema); ok {
			all = append(all, newRoute(schema.ID().Name, http))
		}
	}
	slices.SortFunc(all, func(a, b route) int {
		n := min(len(a.segments), len(b.segments))
		return cmp.Or(
			slices.CompareFunc(a.segments[:n], b.segments[:n], func(x, y segment) int { return cmp.Compare(x.kind, y.kind) }),
			cmp.Compare(len(b.segments), len(a.segments)), // {key+}/acl before {key+}
			cmp.Compare(len(b.query), len(a.query)),
			cmp.Compare(a.op, b.op))
	})
	return all
}

func newRoute(op string, http *traits.HTTP) route {
	path, query, _ := strings.Cut(http.URI, "?")
	r := route{op: op, method: http.Method}
	r.query, _ = url.ParseQuery(query) // the model's, not a client's
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		s := segment{text: part}
		if name, ok := strings.CutPrefix(part, "{"); ok {
			s.kind, s.text = label, strings.TrimSuffix(name, "}")
			if name, ok := strings.CutSuffix(s.text, "+"); ok {
				s.kind, s.text = greedy, name
			}
		}
		r.segments = append(r.segments, s)
	}
	return r
}

// match returns the labels of a request to the route. path holds the request's segments as they were sent, so that a slash
// within a label ("%2F") is none between two.
func (r *route) match(method string, path []string, query url.Values) (labels map[string]string, ok bool) {
	if r.method != method || len(path) < len(r.segments) {
		return nil, false
	}
	for name, want := range r.query {
		if got := query[name]; len(got) == 0 || want[0] != "" && !slices.Contains(got, want[0]) {
			return nil, false
		}
	}
	labels = map[string]string{}
	for i, s := range r.segments {
		n := 1
		if s.kind == greedy {
			n += len(path) - (len(r.segments) - i)
		}
		if len(path) < n {
			return nil, false
		}
		text, err := url.PathUnescape(strings.Join(path[:n], "/"))
		if err != nil || s.kind == literal && text != s.text || s.kind != literal && text == "" {
			return nil, false
		}
		if s.kind != literal {
			labels[s.text] = text
		}
		path = path[n:]
	}
	return labels, len(path) == 0
}

// findRoute finds the operation that u and method stand for, and its labels.
func findRoute(routes []route, method string, u *url.URL) (op string, labels map[string]string, ok bool) {
	path, query := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/"), u.Query()
	for i := range routes {
		if labels, ok := routes[i].match(method, path, query); ok {
			return routes[i].op, labels, true
		}
	}
	return "", nil, false
}
