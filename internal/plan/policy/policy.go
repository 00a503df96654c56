// Package policy reads, checks and evaluates AWS's policy documents. A document is compiled when it is read, so that a decision costs
// little; what is unknown or unclear in one never allows anything.
package policy

import "errors"

// Document is a policy that was read.
type Document struct {
	Version    string // 2008-10-17 or 2012-10-17
	ID         string
	Statements []Statement
}

// Statement is one statement of a document.
type Statement struct {
	Sid   string
	Allow bool // else it denies
	// Start and End are where its text is in the document, bytes.
	Start, End int

	actions []pattern
	// of holds, for statements with many actions, those of each service by its name, and under "" those of any; nil for the others.
	of map[string][]pattern
	// only is the service that all its actions are of; "" when they are of several.
	only         string
	notActions   bool
	resources    []resource
	notResources bool
	hasResource  bool
	principals   *principals // nil: the document names none
	conditions   []condition
}

// ErrSyntax is what documents are refused with that are no policies.
var ErrSyntax = errors.New("Syntax errors in policy.") //nolint:staticcheck // AWS's sentence

// errLegacy is what AWS says of the values that it does not explain.
var errLegacy = errors.New("The policy failed legacy parsing") //nolint:staticcheck // AWS's sentence

// Parse reads a document. Every error's text is AWS's.
func Parse(text string) (*Document, error) {
	root, err := parseJSON(text)
	if err != nil {
		return nil, ErrSyntax
	}
	d, raw, err := readDocument(root)
	if err != nil {
		return nil, err
	}
	for i := range d.Statements {
		if err := d.Statements[i].compile(raw[i], d.Version == version2012); err != nil {
			return nil, err
		}
	}
	return d, nil
}

const version2008, version2012 = "2008-10-17", "2012-10-17"

// Keys lists the condition keys that the document asks about, by condition or variable, as they are written there.
func (d *Document) Keys() (keys []string) {
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			keys = append(keys, name)
		}
	}
	for i := range d.Statements {
		s := &d.Statements[i]
		for _, c := range s.conditions {
			add(c.name)
			c.variables(add)
		}
		for _, r := range s.resources {
			r.variables(add)
		}
	}
	return keys
}
