package iam

import (
	"slices"
	"strings"
	"sync"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/plan/policy"
	"github.com/berthdev/berth/internal/store"
)

// compiled keeps what was read of policies: of rows of the store, which are never changed in place, and of texts.
type compiled struct {
	mu    sync.Mutex
	rows  map[string]compiledRow
	texts map[string]*policy.Document
}

type compiledRow struct {
	row      any
	policies []policy.Attached
}

// maxCompiled bounds each of the two; what is over begins anew.
const maxCompiled = 10_000

func newCompiled() *compiled {
	return &compiled{rows: map[string]compiledRow{}, texts: map[string]*policy.Document{}}
}

// of returns the policies of a row, which read reads when the row is another than the last time.
func (c *compiled) of(key string, row any, read func() []policy.Attached) []policy.Attached {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.rows[key]; ok && known.row == row {
		return known.policies
	}
	if len(c.rows) >= maxCompiled {
		clear(c.rows)
	}
	policies := read()
	c.rows[key] = compiledRow{row, policies}
	return policies
}

// text reads a document; nil for one that is none.
func (c *compiled) text(text string) *policy.Document {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.texts[text]; ok {
		return d
	}
	if len(c.texts) >= maxCompiled {
		clear(c.texts)
	}
	d, err := policy.Parse(text)
	if err != nil {
		d = nil
	}
	c.texts[text] = d
	return d
}

// read reads a document that was checked when it was stored. One that cannot be read all the same denies everything.
func read(text string) *policy.Document {
	d, err := policy.Parse(text)
	if err != nil {
		d, _ = policy.Parse(`{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`)
	}
	return d
}

// attachedTo collects an identity's policies.
func (a *Authority) attachedTo(r store.Reader, kind string, row any, i *model.IAMIdentity) []policy.Attached {
	all := slices.Clone(a.compiled.of(kind+i.Key(), row, func() (inline []policy.Attached) {
		for _, p := range i.Inline {
			inline = append(inline, policy.Attached{Document: read(p.Document), Name: p.Name})
		}
		return inline
	}))
	for _, arn := range i.Attached {
		if p, ok := a.managedDocument(r, arn); ok {
			all = append(all, p)
		}
	}
	return all
}

// managedDocument reads the version of a managed policy that counts.
func (a *Authority) managedDocument(r store.Reader, arn string) (policy.Attached, bool) {
	p, ok := a.managedPolicy(r, arn)
	if !ok {
		return policy.Attached{}, false
	}
	if !a.knows(arn) {
		return policy.Attached{Document: a.compiled.text(emptyDocument), Name: p.Name, ARN: arn}, true
	}
	return a.compiled.of("policy "+arn, p, func() []policy.Attached {
		return []policy.Attached{{Document: read(p.Default().Document), Name: p.Name, ARN: arn}}
	})[0], true
}

// person is a caller as decisions see it.
type person struct {
	policy.Subject
	keys policy.Keys // of the principal
	// gone: its user or role was deleted since.
	gone bool
}

// boundTo sets the permissions boundary. One that is gone bounds everything.
func (p *person) boundTo(a *Authority, r store.Reader, arn string) {
	if arn == "" {
		return
	}
	b, ok := a.managedDocument(r, arn)
	if !ok {
		b = policy.Attached{Document: a.compiled.text(emptyDocument), ARN: arn}
	}
	p.Boundary = &b
}

// personNow finds out who a caller is, by the store as it is now.
func (a *Authority) personNow(c wire.Caller) (p *person) {
	if a.Store == nil {
		return a.person(nil, c)
	}
	a.Store.View(func(r store.Reader) { p = a.person(r, c) })
	return p
}

// person finds out who a caller is; r may be nil.
func (a *Authority) person(r store.Reader, c wire.Caller) *person {
	p := &person{keys: policy.Keys{}}
	p.Account, p.ARN = c.Account, c.ARN
	p.keys.Set("aws:PrincipalAccount", c.Account)
	p.keys.Set("aws:PrincipalArn", c.ARN)
	p.keys.Set("aws:userid", c.UserID)
	g := c.Grant
	switch {
	case g != nil && g.Role != "":
		a.inRole(r, p, g)
	case strings.Contains(c.ARN, ":user/") && r != nil:
		a.asUser(r, p, c)
	default:
		p.gone = true
	}
	if g != nil {
		a.inSession(r, p, g)
	}
	return p
}

func (a *Authority) asUser(r store.Reader, p *person, c wire.Caller) {
	p.keys.Set("aws:PrincipalType", "User")
	u, ok := store.IAMUsers.Get(r, strings.ToLower(model.ARNTail(c.ARN)))
	if p.gone = !ok || u.ARN != c.ARN || u.ID != c.UserID; p.gone {
		return
	}
	p.keys.Set("aws:username", u.Name)
	for _, t := range u.Tags {
		p.keys.Set("aws:PrincipalTag/"+*t.Key, text(t.Value))
	}
	p.Identity = a.attachedTo(r, "user ", u, &u.IAMIdentity)
	for _, name := range u.Groups {
		if g, ok := store.IAMGroups.Get(r, name); ok {
			p.Identity = append(p.Identity, a.attachedTo(r, "group ", g, &g.IAMIdentity)...)
		}
	}
	p.boundTo(a, r, u.Boundary)
}

// inRole: the principal of a role's session is the role, whatever the session is called.
func (a *Authority) inRole(r store.Reader, p *person, g *model.Grant) {
	p.Role = g.Role
	p.keys.Set("aws:PrincipalType", "AssumedRole")
	p.keys.Set("aws:PrincipalArn", g.Role)
	var role *model.IAMRole
	var ok bool
	if r != nil {
		role, ok = store.IAMRoles.Get(r, strings.ToLower(model.ARNTail(g.Role)))
	}
	if !ok && g.RoleID == "" {
		p.Identity = []policy.Attached{{Document: a.compiled.text(unknownRoleDocument)}}
		return
	}
	if p.gone = !ok || role.ARN != g.Role || g.RoleID != "" && g.RoleID != role.ID; p.gone {
		return
	}
	for _, t := range role.Tags {
		p.keys.Set("aws:PrincipalTag/"+*t.Key, text(t.Value))
	}
	p.Identity = a.attachedTo(r, "role ", role, &role.IAMIdentity)
	p.boundTo(a, r, role.Boundary)
}

func (a *Authority) inSession(r store.Reader, p *person, g *model.Grant) {
	for k, v := range g.Tags {
		p.keys.Set("aws:PrincipalTag/"+k, v)
	}
	if g.Source != "" {
		p.keys.Set("aws:SourceIdentity", g.Source)
	}
	if g.Federated != "" {
		p.keys.Set("aws:FederatedProvider", g.Federated)
	}
	p.keys.Set("aws:TokenIssueTime", unixTime(g.Issued))
	for _, t := range g.Policies {
		d := a.compiled.text(t)
		if d == nil {
			d = read(t)
		}
		p.Sessions = append(p.Sessions, policy.Attached{Document: d})
	}
	for _, arn := range g.Managed {
		if d, ok := a.managedDocument(r, arn); ok {
			p.Sessions = append(p.Sessions, d)
		} else {
			p.Sessions = append(p.Sessions, policy.Attached{Document: a.compiled.text(emptyDocument), ARN: arn})
		}
	}
}
