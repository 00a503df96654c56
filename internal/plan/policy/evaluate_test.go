package policy

import (
	"fmt"
	"strings"
	"testing"
)

// documents by the names that decisionCases use.
var documents = map[string]string{
	"allow":        `{"Effect":"Allow","Action":"ecs:RunTask","Resource":"*"}`,
	"deny":         `{"Effect":"Deny","Action":"ecs:RunTask","Resource":"*"}`,
	"other":        `{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}`,
	"all":          `{"Effect":"Allow","Action":"*","Resource":"*"}`,
	"denyOther":    `{"Effect":"Deny","Action":"s3:*","Resource":"*"}`,
	"denyRegion":   `{"Effect":"Deny","NotAction":"iam:*","Resource":"*","Condition":{"StringNotEquals":{"aws:RequestedRegion":"us-east-1"}}}`,
	"denyInsecure": `{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}`,
	"thisResource": `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ecs:us-east-1:000000000000:task-definition/web:1"}`,
	"thatResource": `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ecs:us-east-1:000000000000:task-definition/api:1"}`,
	"user":         `{"Effect":"Allow","Action":"*","Principal":{"AWS":"arn:aws:iam::000000000000:user/ann"}}`,
	"userDeny":     `{"Effect":"Deny","Action":"*","Principal":{"AWS":"arn:aws:iam::000000000000:user/ann"}}`,
	"everybody":    `{"Effect":"Allow","Action":"*","Principal":"*"}`,
	"nobody":       `{"Effect":"Deny","Action":"*","Principal":"*"}`,
	"butAnn":       `{"Effect":"Deny","Action":"*","NotPrincipal":{"AWS":"arn:aws:iam::000000000000:user/ann"}}`,
	"account":      `{"Effect":"Allow","Action":"*","Principal":{"AWS":"arn:aws:iam::000000000000:root"}}`,
	"role":         `{"Effect":"Allow","Action":"*","Principal":{"AWS":"arn:aws:iam::000000000000:role/app"}}`,
	"session":      `{"Effect":"Allow","Action":"*","Principal":{"AWS":"arn:aws:sts::000000000000:assumed-role/app/s"}}`,
	"elsewhere":    `{"Effect":"Allow","Action":"*","Principal":{"AWS":"111111111111"}}`,
	"noPrincipal":  `{"Effect":"Allow","Action":"*","Resource":"*"}`,
	"ecs":          `{"Effect":"Allow","Action":"*","Principal":{"Service":"ecs-tasks.amazonaws.com"}}`,
}

// decisionCases: who asks for ecs:RunTask of task definition web:1, the policies of its identity, of the resource (must: those of a
// role or a key), its boundary and its session's ("-": none; "none": an empty list), and the answer: yes, or what denies, ! by a denial.
const decisionCases = `
ann     -                  -            -          -          identity
ann     allow              -            -          -          yes
ann     other              -            -          -          identity
ann     allow,other        -            -          -          yes
ann     allow,deny         -            -          -          identity!
ann     deny,allow         -            -          -          identity!
ann     deny               -            -          -          identity!
ann     all,denyOther      -            -          -          yes
ann     all,denyRegion     -            -          -          yes
ann     all,denyInsecure   -            -          -          identity!
ann     thisResource       -            -          -          yes
ann     thatResource       -            -          -          identity
ann     thatResource,thisResource -     -          -          yes
ann     all                -            all        -          yes
ann     all                -            allow      -          yes
ann     all                -            other      -          boundary
ann     -                  -            all        -          identity
ann     all                -            deny       -          boundary!
ann     all                -            denyOther  -          boundary
ann     -                  user         -          -          yes
ann     -                  everybody    -          -          yes
ann     -                  account      -          -          identity
ann     allow              account      -          -          yes
ann     -                  role         -          -          identity
ann     -                  elsewhere    -          -          identity
ann     allow              elsewhere    -          -          yes
ann     allow              userDeny     -          -          resource!
ann     all                nobody       -          -          resource!
ann     all                butAnn       -          -          yes
session all                butAnn       -          -          resource!
ann     deny               user         -          -          identity!
ann     -                  user         other      -          yes
ann     -                  everybody    other      -          boundary
ann     -                  user         deny       -          boundary!
ann     -                  noPrincipal  -          -          identity
ann     -                  user,userDeny -         -          resource!
session -                  -            -          -          identity
session allow              -            -          -          yes
session -                  role         -          -          yes
session -                  session      -          -          yes
session -                  role         other      -          boundary
session -                  session      other      -          yes
session -                  role         -          other      session
session -                  session      -          other      yes
session -                  session      -          none       yes
session -                  role         -          none       session
session -                  session      -          deny       session!
session all                -            -          allow      yes
session all                -            -          other      session
session all                -            -          none       session
session all                -            -          other,allow yes
session all                -            -          allow,deny session!
session -                  -            -          all        identity
session all                -            other      all        boundary
session all                -            all        all        yes
session all                -            allow      other      session
session -                  user         -          -          identity
session -                  everybody    other      -          boundary
session -                  everybody    -          other      session
session allow              account      -          other      session
ann     all                must:elsewhere -        -          resource
ann     -                  must:account -          -          identity
ann     all                must:account -          -          yes
ann     -                  must:user    -          -          yes
ann     all                must:user    other      -          yes
ann     all                must:role    -          -          resource
session -                  must:role    -          -          yes
session all                must:account -          other      session
session all                must:account other      -          boundary
session all                must:ecs     -          -          resource
ann     all                must:nobody  -          -          resource!
ecs     -                  must:ecs     -          -          yes
ecs     -                  must:account -          -          resource
ecs     -                  must:everybody -        -          yes
ecs     -                  ecs          -          -          yes
other   all                must:account -          -          resource
other   -                  everybody    -          -          yes
other   all                must:elsewhere -        -          yes
`

func TestDecisions(t *testing.T) {
	sources := map[string]Source{"identity": IdentityBased, "resource": ResourceBased, "boundary": Boundary, "session": Session}
	for line := range strings.Lines(decisionCases) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		s := &Subject{Principal: people[f[0]], Identity: read(t, f[1])}
		r := &Request{Action: "ecs:RunTask", Resource: "arn:aws:ecs:us-east-1:000000000000:task-definition/web:1",
			Keys: Keys{"aws:requestedregion": {"us-east-1"}, "aws:securetransport": {"false"}}}
		resource, must := strings.CutPrefix(f[2], "must:")
		r.Must = must
		for _, a := range read(t, resource) {
			r.Policies = append(r.Policies, a.Document)
		}
		if b := read(t, f[3]); len(b) > 0 {
			s.Boundary = &b[0]
		}
		s.Sessions = read(t, f[4])
		d := Decide(s, r)
		by, explicit := strings.CutSuffix(f[5], "!")
		if want := (Decision{Allowed: by == "yes", Explicit: explicit, By: sources[by]}); fmt.Sprint(d) != fmt.Sprint(want) {
			t.Errorf("%s: %+v", strings.TrimSpace(line), d)
		}
	}
}

func read(t testing.TB, names string) (all []Attached) {
	switch names {
	case "-":
		return nil
	case "none":
		return []Attached{}
	}
	for name := range strings.SplitSeq(names, ",") {
		d, err := Parse(`{"Version":"2012-10-17","Statement":[` + documents[name] + `]}`)
		if err != nil {
			t.Fatal(name, err)
		}
		all = append(all, Attached{Document: d, Name: name})
	}
	return all
}

func TestReasons(t *testing.T) {
	for want, d := range map[string]Decision{
		"because no identity-based policy allows the a:B action":       {By: IdentityBased},
		"because no permissions boundary allows the a:B action":        {By: Boundary},
		"because no session policy allows the a:B action":              {By: Session},
		"because no resource-based policy allows the a:B action":       {By: ResourceBased},
		"with an explicit deny in an identity-based policy":            {By: IdentityBased, Explicit: true},
		"with an explicit deny in an identity-based policy: arn:aws:x": {By: IdentityBased, Explicit: true, ARN: "arn:aws:x"},
		"with an explicit deny in a permissions boundary: arn:aws:x":   {By: Boundary, Explicit: true, ARN: "arn:aws:x"},
		"with an explicit deny in a resource-based policy":             {By: ResourceBased, Explicit: true},
		"with an explicit deny in a session policy":                    {By: Session, Explicit: true},
	} {
		if got := d.Reason("a:B"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestExplain: a simulation sees every statement that applies.
func TestExplain(t *testing.T) {
	text := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecs:*","Resource":"*"}, {"Effect":"Deny","Action":"ecs:RunTask","Resource":"*"},
 {"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
	d, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	got := Decide(&Subject{Identity: []Attached{{Document: d, Name: "p"}}}, &Request{Action: "ecs:RunTask", Resource: "*", Explain: true})
	if got.Allowed || len(got.Matched) != 2 || got.Matched[0].Name != "p" {
		t.Fatalf("%+v", got)
	}
	if s := got.Matched[1].Statement; text[s.Start:s.End] != `{"Effect":"Deny","Action":"ecs:RunTask","Resource":"*"}` {
		t.Errorf("the statement is %q", text[s.Start:s.End])
	}
}

func TestKeys(t *testing.T) {
	d, err := Parse(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username}","Condition":{
	"StringEquals":{"aws:RequestedRegion":"x","ec2:Owner":"${aws:userid}"},"ArnLike":{"aws:SourceArn":"arn:aws:s3:::${aws:username}"}}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(d.Keys()); got != "[aws:RequestedRegion ec2:Owner aws:userid aws:SourceArn aws:username]" {
		t.Error(got)
	}
}
