package policy

import (
	"fmt"
	"strings"
)

// Attached is a policy of a principal.
type Attached struct {
	*Document
	Name string // of an inline policy, or its id in a simulation
	ARN  string // of a managed policy, "" for an inline one
}

// Subject is a principal with all that bounds it.
type Subject struct {
	Principal
	Identity []Attached
	// Boundary, when not nil, holds the permissions boundary.
	Boundary *Attached
	// Sessions, when not nil, are the session's own policies, of which one must allow.
	Sessions []Attached
}

// Request is one action on one resource.
type Request struct {
	Action   string
	Resource string // an ARN, or "*"
	Keys     Keys
	// Policies are the resource's own. Must: nothing is allowed that they do not allow, or leave to the account (a role's trust, a key's
	// policy).
	Policies []*Document
	Must     bool
	// Explain has the decision list the statements that apply.
	Explain bool
}

// Source is what kind of policy decided.
type Source string

// The kinds, in AWS's words.
const (
	IdentityBased Source = "identity-based policy"
	ResourceBased Source = "resource-based policy"
	Boundary      Source = "permissions boundary"
	Session       Source = "session policy"
)

// Decision is the answer.
type Decision struct {
	Allowed  bool
	Explicit bool   // a statement denies
	By       Source // what denies, or fails to allow
	ARN      string // of the managed policy that denies
	Matched  []Match
}

// Match is a statement that applies.
type Match struct {
	By Source
	Attached
	Statement *Statement
}

// Reason is the end of AWS's sentence about a denial.
func (d Decision) Reason(action string) string {
	switch {
	case d.Explicit && d.ARN != "":
		return fmt.Sprintf("with an explicit deny in %s %s: %s", article(d.By), d.By, d.ARN)
	case d.Explicit:
		return fmt.Sprintf("with an explicit deny in %s %s", article(d.By), d.By)
	}
	return fmt.Sprintf("because no %s allows the %s action", d.By, action)
}

func article(s Source) string {
	if s == IdentityBased {
		return "an"
	}
	return "a"
}

// Decide says whether a subject may do what it asks, in AWS's order: an explicit denial anywhere; a resource's policy that names the
// very user or session; the union of the identity's policies and the resource's; the boundary; the session's policies.
func Decide(s *Subject, r *Request) (d Decision) {
	e := evaluation{s: s, r: r, action: strings.ToLower(r.Action), d: &d}
	e.service, _, _ = strings.Cut(e.action, ":")
	identity := e.attached(IdentityBased, s.Identity)
	granted := notNamed
	for _, p := range r.Policies {
		granted = max(granted, e.document(ResourceBased, Attached{Document: p}))
	}
	boundary, session := byName, byName
	if s.Boundary != nil {
		boundary = e.document(Boundary, *s.Boundary)
	}
	if s.Sessions != nil {
		session = e.attached(Session, s.Sessions)
	}
	if d.Explicit {
		return d
	}
	switch {
	case granted == byName:
		d.Allowed = true
	case r.Must && granted == notNamed:
		d.By = ResourceBased
	case identity == notNamed && granted != byRole:
		d.By = IdentityBased
	case boundary == notNamed:
		d.By = Boundary
	case session == notNamed:
		d.By = Session
	default:
		d.Allowed = true
	}
	return d
}

// evaluation is one decision on its way.
type evaluation struct {
	s               *Subject
	r               *Request
	action, service string // in small letters
	d               *Decision
}

func (e *evaluation) attached(by Source, all []Attached) (best naming) {
	for i := range all {
		best = max(best, e.document(by, all[i]))
	}
	return best
}

// document returns how well a policy allows the request, and notes when it denies it.
func (e *evaluation) document(by Source, a Attached) (best naming) {
	for i := range a.Statements {
		s := &a.Statements[i]
		if s.Allow && e.d.Explicit && !e.r.Explain {
			continue
		}
		n := e.statement(by, s)
		if n == notNamed {
			continue
		}
		if e.r.Explain {
			e.d.Matched = append(e.d.Matched, Match{by, a, s})
		}
		if s.Allow {
			best = max(best, n)
		} else if !e.d.Explicit {
			e.d.Explicit, e.d.By, e.d.ARN = true, by, a.ARN
		}
	}
	return best
}

// statement tells whether a statement applies, and how it names the principal: policies of the principal itself do by name.
func (e *evaluation) statement(by Source, s *Statement) naming {
	if !e.aboutAction(s) {
		return notNamed
	}
	n := byName
	if by == ResourceBased {
		if s.principals == nil {
			return notNamed
		}
		if n = s.principals.names(&e.s.Principal); n == notNamed {
			return notNamed
		}
	}
	if !e.aboutResource(by, s) {
		return notNamed
	}
	for i := range s.conditions {
		if holds, known := s.conditions[i].holds(e.r.Keys); !holds || !known {
			return notNamed
		}
	}
	return n
}

func (e *evaluation) aboutAction(s *Statement) bool {
	found := false
	if s.only != "" && s.only != e.service {
		return s.notActions
	}
	if s.of == nil {
		found = matchAny(s.actions, e.action)
	} else {
		found = matchAny(s.of[e.service], e.action) || matchAny(s.of[""], e.action)
	}
	return found != s.notActions && len(s.actions) > 0
}

func matchAny(all []pattern, s string) bool {
	for i := range all {
		if fits, _ := all[i].match(s, nil); fits {
			return true
		}
	}
	return false
}

// aboutResource: a resource's policy need not name the resource.
func (e *evaluation) aboutResource(by Source, s *Statement) bool {
	if !s.hasResource {
		return by == ResourceBased
	}
	for i := range s.resources {
		switch fits, known := s.resources[i].match(e.r.Resource, e.r.Keys); {
		case fits:
			return !s.notResources
		case !known && s.notResources:
			return false // nobody knows what it spares
		}
	}
	return s.notResources
}
