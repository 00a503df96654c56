package policy

import (
	"slices"
	"strings"
)

// readDocument reads the frame of a document: what of it is no policy at all is refused here, and what a statement says later.
func readDocument(root *value) (*Document, []*value, error) {
	if root.kind != object {
		return nil, nil, ErrSyntax
	}
	d := &Document{Version: version2008}
	var statements *value
	for _, m := range root.members {
		switch m.name {
		case "Version":
			d.Version = m.value.text
			if m.value.kind != text || d.Version != version2008 && d.Version != version2012 {
				return nil, nil, ErrSyntax
			}
		case "Id":
			d.ID = m.value.text
			if m.value.kind != text {
				return nil, nil, ErrSyntax
			}
		case "Statement":
			statements = m.value
		default:
			return nil, nil, ErrSyntax
		}
	}
	if statements == nil {
		return nil, nil, ErrSyntax
	}
	raw := []*value{statements}
	if statements.kind == list {
		raw = statements.items
	}
	if len(raw) == 0 {
		return nil, nil, ErrSyntax
	}
	d.Statements = make([]Statement, len(raw))
	for i, v := range raw {
		if err := d.Statements[i].read(v); err != nil {
			return nil, nil, err
		}
	}
	return d, raw, nil
}

var statementElements = []string{"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "NotPrincipal", "Condition"}

// read checks which elements a statement has and of what kind they are.
func (s *Statement) read(v *value) error {
	if v.kind != object {
		return ErrSyntax
	}
	s.Start, s.End = v.start, v.end
	for _, m := range v.members {
		if !slices.Contains(statementElements, m.name) {
			return ErrSyntax
		}
	}
	for _, pair := range [][2]string{{"Action", "NotAction"}, {"Resource", "NotResource"}, {"Principal", "NotPrincipal"}} {
		if v.member(pair[0]) != nil && v.member(pair[1]) != nil {
			return ErrSyntax
		}
	}
	if sid := v.member("Sid"); sid != nil {
		if sid.kind != text {
			return ErrSyntax
		}
		s.Sid = sid.text
	}
	effect := v.member("Effect")
	if effect == nil || effect.kind != text || !strings.EqualFold(effect.text, "Allow") && !strings.EqualFold(effect.text, "Deny") {
		return ErrSyntax
	}
	s.Allow = effect.text == "Allow"
	return nil
}

// compile reads what a statement is about.
func (s *Statement) compile(v *value, variables bool) error {
	if effect := v.member("Effect").text; effect != "Allow" && effect != "Deny" {
		return errLegacy
	}
	actions, isNot, err := either(v, "Action", "NotAction")
	if err != nil {
		return err
	}
	s.notActions = isNot
	for _, a := range actions {
		s.actions = append(s.actions, compilePattern(a, false, true))
	}
	s.sort()
	resources, isNot, err := either(v, "Resource", "NotResource")
	if err != nil {
		return err
	}
	s.notResources, s.hasResource = isNot, len(resources) > 0
	for _, r := range resources {
		s.resources = append(s.resources, compileResource(r, variables))
	}
	p, isNot := v.member("Principal"), false
	if p == nil {
		p, isNot = v.member("NotPrincipal"), true
	}
	if p != nil {
		if s.principals, err = readPrincipals(p, isNot); err != nil {
			return err
		}
	}
	if c := v.member("Condition"); c != nil {
		s.conditions, err = readConditions(c, variables)
	}
	return err
}

// manyActions is from how many actions on they are looked up by their service.
const manyActions = 16

// sort notes of which services the actions are, and sorts many by them.
func (s *Statement) sort() {
	for i, p := range s.actions {
		service, _, whole := strings.Cut(p.head, ":")
		if !whole || i > 0 && service != s.only {
			s.only = ""
			break
		}
		s.only = service
	}
	if len(s.actions) < manyActions {
		return
	}
	s.of = map[string][]pattern{}
	for _, p := range s.actions {
		service, _, whole := strings.Cut(p.head, ":")
		if !whole {
			service = ""
			if p.exact { // without a colon it is no action
				continue
			}
		}
		s.of[service] = append(s.of[service], p)
	}
}

// either reads an element or its opposite.
func either(v *value, name, opposite string) (all []string, isNot bool, err error) {
	m := v.member(name)
	if m == nil {
		m, isNot = v.member(opposite), true
	}
	if m == nil {
		return nil, false, nil
	}
	all, ok := m.strings()
	if !ok {
		return nil, false, ErrSyntax
	}
	return all, isNot, nil
}
