package iam

import (
	_ "embed"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
)

// managedJSON are AWS's own policies, with their documents as AWS publishes them.
//
//go:embed managed.json
var managedJSON []byte

// awsPrefix is what the ARNs of AWS's own policies begin with.
const awsPrefix = "arn:" + model.Partition + ":iam::aws:policy/"

// loadManaged reads AWS's policies, by ARN.
func loadManaged() map[string]*model.IAMPolicy {
	var all []struct {
		Name, Path, Version string
		Created, Updated    time.Time
		Document            json.RawMessage
	}
	if err := json.Unmarshal(managedJSON, &all); err != nil {
		panic(err) // a test reads it
	}
	by := map[string]*model.IAMPolicy{}
	for _, p := range all {
		arn := awsPrefix + strings.TrimPrefix(p.Path, "/") + p.Name
		by[arn] = &model.IAMPolicy{Name: p.Name, Path: p.Path, ARN: arn, ID: "ANPA" + roleID(arn)[4:], CreatedAt: p.Created, UpdatedAt: p.Updated,
			Versions: []model.PolicyVersion{{ID: p.Version, Document: string(p.Document), Default: true, CreatedAt: p.Updated}}}
	}
	return by
}

// emptyDocument is that of AWS's policies which Berth does not know: it allows nothing.
const emptyDocument = `{"Version":"2012-10-17","Statement":[{"Sid":"BerthDoesNotKnowThisPolicy","Effect":"Allow","Action":"none:null","Resource":"*"}]}`

// managedPolicy finds a managed policy, the account's or AWS's. Of AWS's, those that Berth does not know are there and allow nothing: a
// stack that attaches one must not stop at it.
func (a *Authority) managedPolicy(r store.Reader, arn string) (p *model.IAMPolicy, ok bool) {
	rest, ok := strings.CutPrefix(arn, awsPrefix)
	if !ok {
		return store.IAMPolicies.Get(r, arn)
	}
	if p, ok := a.aws()[arn]; ok {
		return p, true
	}
	if !nameRegexp.MatchString(strings.ReplaceAll(rest, "/", "")) || len(rest) > 256 {
		return nil, false
	}
	path, name := "/", rest
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		path, name = "/"+rest[:i+1], rest[i+1:]
	}
	return &model.IAMPolicy{Name: name, Path: path, ARN: arn, ID: "ANPA" + roleID(arn)[4:],
		Versions: []model.PolicyVersion{{ID: "v1", Document: emptyDocument, Default: true}}}, name != ""
}

// knows tells whether a policy is not one of those that only seem to be there.
func (a *Authority) knows(arn string) bool {
	_, ok := a.aws()[arn]
	return ok || !strings.HasPrefix(arn, awsPrefix)
}

// uses counts what a policy is attached to, and whose boundary it is.
type uses struct{ attached, boundaries int32 }

func countUses(r store.Reader) map[string]uses {
	by := map[string]uses{}
	count := func(attached []string, boundary string) {
		for _, arn := range attached {
			u := by[arn]
			u.attached++
			by[arn] = u
		}
		if boundary != "" {
			u := by[boundary]
			u.boundaries++
			by[boundary] = u
		}
	}
	for u := range store.IAMUsers.Scan(r, "") {
		count(u.Attached, u.Boundary)
	}
	for g := range store.IAMGroups.Scan(r, "") {
		count(g.Attached, "")
	}
	for role := range store.IAMRoles.Scan(r, "") {
		count(role.Attached, role.Boundary)
	}
	return by
}

// without returns a list without one of its texts.
func without(all []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == one })
}
