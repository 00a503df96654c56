package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Principal is who makes a request.
type Principal struct {
	Account   string
	ARN       string // of a user, a role's session or the account's root
	Role      string // a session's role: its ARN
	Service   string // "ecs-tasks.amazonaws.com": AWS's own part acts, for nobody
	Federated string // the ARN of the provider whose token speaks
}

// principals are those that a statement names.
type principals struct {
	not       bool
	everybody bool
	aws       []string
	services  []string
	federated []string
}

// naming tells how a statement names a principal.
type naming int

const (
	notNamed  naming = iota
	byAccount        // its account: whoever administers that decides
	byRole           // its role, or everybody
	byName           // itself
)

func readPrincipals(v *value, not bool) (*principals, error) {
	p := &principals{not: not}
	if v.kind == text {
		if v.text != "*" {
			return nil, ErrSyntax
		}
		p.everybody = true
		return p, nil
	}
	if v.kind != object {
		return nil, ErrSyntax
	}
	for _, m := range v.members {
		names, ok := m.value.strings()
		if !ok {
			return nil, ErrSyntax
		}
		switch m.name {
		case "AWS":
			for _, n := range names {
				if !validPrincipal(n) {
					return nil, InvalidPrincipal("AWS", n)
				}
			}
			p.aws = names
			p.everybody = slices.Contains(names, "*")
		case "Service":
			for _, n := range names {
				if n != "*" && !strings.Contains(n, ".") {
					return nil, InvalidPrincipal("SERVICE", n)
				}
			}
			p.services = names
		case "Federated":
			p.federated = names
		case "CanonicalUser":
		default:
			return nil, ErrSyntax
		}
	}
	return p, nil
}

// InvalidPrincipal is the refusal of a principal, by its type and name.
func InvalidPrincipal(kind, name string) error {
	return fmt.Errorf("Invalid principal in policy: %q:%q", kind, name) //nolint:staticcheck // AWS's sentence
}

// Users and roles' ids may stand for them: a policy keeps such a one when its principal is deleted.
func validPrincipal(s string) bool {
	if s == "*" || isAccount(s) || len(s) > 16 && (strings.HasPrefix(s, "AROA") || strings.HasPrefix(s, "AIDA")) {
		return true
	}
	f := strings.SplitN(s, ":", 6)
	if len(f) != 6 || f[0] != "arn" || !strings.HasPrefix(f[1], "aws") || f[3] != "" || !isAccount(f[4]) || strings.ContainsAny(f[5], "*?") {
		return false
	}
	switch kind, rest, _ := strings.Cut(f[5], "/"); {
	case f[2] == "iam":
		return f[5] == "root" || (kind == "user" || kind == "role") && rest != ""
	case f[2] == "sts":
		return (kind == "assumed-role" || kind == "federated-user") && rest != ""
	}
	return false
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

// named tells how the list names a principal.
func (p *principals) named(who *Principal) (n naming) {
	if p.everybody {
		n = byRole
	}
	if who.Service != "" && (slices.Contains(p.services, who.Service) || slices.Contains(p.services, "*")) ||
		who.Federated != "" && slices.Contains(p.federated, who.Federated) {
		return byName
	}
	if who.ARN == "" {
		return n
	}
	for _, a := range p.aws {
		switch {
		case a == who.ARN:
			return byName
		case who.Role != "" && a == who.Role:
			n = byRole
		case a == who.Account, strings.HasSuffix(a, ":iam::"+who.Account+":root"):
			n = max(n, byAccount)
		}
	}
	return n
}

// names is named, turned round for NotPrincipal: that lists who is spared, and an account in it spares its root alone.
func (p *principals) names(who *Principal) naming {
	n := p.named(who)
	if !p.not {
		return n
	}
	if n >= byRole {
		return notNamed
	}
	return byRole
}

// ARNs lists the users and roles that the document names as principals.
func (d *Document) ARNs() (all []string) {
	for i := range d.Statements {
		if p := d.Statements[i].principals; p != nil {
			for _, a := range p.aws {
				if strings.HasPrefix(a, "arn:") && !strings.HasSuffix(a, ":root") {
					all = append(all, a)
				}
			}
		}
	}
	return all
}
