package policy

import (
	"fmt"
	"strings"
	"testing"
)

// matchCases: an element of a statement and its JSON, the action and the resource of a request, and whether the statement allows it.
const matchCases = `
Action      "ecs:RunTask"                  ecs:RunTask        * yes
Action      "ECS:runtask"                  ecs:RunTask        * yes
Action      "ecs:RunTask"                  ecs:StopTask       * no
Action      "ecs:*"                        ecs:StopTask       * yes
Action      "ecs:*"                        ecr:PutImage       * no
Action      "*"                            ecr:PutImage       * yes
Action      "*:*"                          ecr:PutImage       * yes
Action      "ecs:*Task"                    ecs:RunTask        * yes
Action      "ecs:*Task"                    ecs:ListTasks      * no
Action      "ecs:Run????"                  ecs:RunTask        * yes
Action      "ecs:Run???"                   ecs:RunTask        * no
Action      "ec?:RunTask"                  ecs:RunTask        * yes
Action      "e*:Describe*"                 ec2:DescribeVpcs   * yes
Action      ["ecs:RunTask","ecs:StopTask"] ecs:StopTask       * yes
Action      []                             ecs:StopTask       * no
Action      "${aws:username}"              ann                * no
NotAction   "ecs:RunTask"                  ecs:RunTask        * no
NotAction   "ecs:RunTask"                  ecs:StopTask       * yes
NotAction   "iam:*"                        IAM:CreateUser     * no
NotAction   "iam:*"                        ecs:RunTask        * yes
NotAction   ["iam:*","ecs:*"]              ecs:RunTask        * no
NotAction   ["iam:*","ecs:*"]              ec2:RunInstances   * yes
NotAction   "*"                            ec2:RunInstances   * no
NotAction   []                             ec2:RunInstances   * no
Resource    "*"                            x:Y *                                               yes
Resource    "*"                            x:Y arn:aws:s3:::b                                  yes
Resource    "arn:aws:s3:::b"               x:Y arn:aws:s3:::b                                  yes
Resource    "arn:aws:s3:::b"               x:Y arn:aws:s3:::B                                  no
Resource    "arn:aws:s3:::b"               x:Y *                                               no
Resource    "arn:aws:s3:::b/*"             x:Y arn:aws:s3:::b                                  no
Resource    "arn:aws:s3:::b/*"             x:Y arn:aws:s3:::b/                                 yes
Resource    "arn:aws:s3:::b/*"             x:Y arn:aws:s3:::b/k/l                              yes
Resource    "arn:aws:s3:::b*"              x:Y arn:aws:s3:::bucket/k                           yes
Resource    "arn:aws:*"                    x:Y arn:aws:s3:::b                                  yes
Resource    "arn:*:b"                      x:Y arn:aws:s3:::b                                  yes
Resource    "arn:aws:s3:::?"               x:Y arn:aws:s3:::b                                  yes
Resource    "arn:aws:s3:::??"              x:Y arn:aws:s3:::b                                  no
Resource    "arn:aws:ecs:*:*:service/prod/*" x:Y arn:aws:ecs:us-east-1:000000000000:service/prod/web yes
Resource    "arn:aws:ecs:*:*:service/prod/*" x:Y arn:aws:ecs:us-east-1:000000000000:service/dev/web no
Resource    "arn:aws:ecs:*:service/*"      x:Y arn:aws:ecs:us-east-1:000000000000:service/dev/web yes
Resource    "arn:aws:ecs:us-west-2:*:*"    x:Y arn:aws:ecs:us-east-1:000000000000:cluster/c    no
Resource    "arn:aws:logs:*:*:log-group:/app/*:*" x:Y arn:aws:logs:us-east-1:000000000000:log-group:/app/web:log-stream:s yes
Resource    ["arn:aws:s3:::a","arn:aws:s3:::b"] x:Y arn:aws:s3:::b                             yes
Resource    ["arn:aws:s3:::a","arn:aws:s3:::b"] x:Y arn:aws:s3:::c                             no
Resource    []                             x:Y arn:aws:s3:::c                                  no
Resource    "arn:aws:s3:::${aws:username}" x:Y arn:aws:s3:::ann                                yes
Resource    "arn:aws:s3:::${aws:username}" x:Y arn:aws:s3:::bob                                no
Resource    "arn:aws:s3:::${nobody}"       x:Y arn:aws:s3:::                                   no
Resource    "arn:aws:s3:::${nobody,'z'}"   x:Y arn:aws:s3:::z                                  yes
Resource    "arn:aws:s3:::${aws:PrincipalTag/Team}/*" x:Y arn:aws:s3:::blue/k                  yes
Resource    "arn:aws:s3:::${aws:principaltag/team}/*" x:Y arn:aws:s3:::red/k                   no
Resource    "arn:aws:s3:::${star}"         x:Y arn:aws:s3:::anything                           no
Resource    "arn:aws:s3:::${star}"         x:Y arn:aws:s3:::*                                  yes
Resource    "arn:aws:s3:::${*}"            x:Y arn:aws:s3:::b                                  no
Resource    "arn:aws:s3:::${"              x:Y arn:aws:s3:::${                                 yes
NotResource "arn:aws:s3:::b"               x:Y arn:aws:s3:::b                                  no
NotResource "arn:aws:s3:::b"               x:Y arn:aws:s3:::c                                  yes
NotResource "arn:aws:s3:::b"               x:Y *                                               yes
NotResource "arn:aws:s3:::b/*"             x:Y arn:aws:s3:::b/k                                no
NotResource ["arn:aws:s3:::a","arn:aws:s3:::b"] x:Y arn:aws:s3:::b                             no
NotResource "arn:aws:s3:::${nobody}"       x:Y arn:aws:s3:::c                                  no
NotResource "arn:aws:s3:::${aws:username}" x:Y arn:aws:s3:::c                                  yes
NotResource "arn:aws:s3:::${aws:username}" x:Y arn:aws:s3:::ann                                no
NotResource "*"                            x:Y arn:aws:s3:::c                                  no
`

func TestActionsAndResources(t *testing.T) {
	for line := range strings.Lines(matchCases) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		other := `"Resource":"*"`
		if strings.HasSuffix(f[0], "Resource") {
			other = `"Action":"*"`
		}
		d, err := Parse(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",%s,%q:%s}]}`, other, f[0], f[1]))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		keys := Keys{"aws:username": {"ann"}, "aws:principaltag/team": {"blue"}, "star": {"*"}}
		if got := allowed(d, f[2], f[3], keys); got != (f[4] == "yes") {
			t.Errorf("%s: %v", strings.TrimSpace(line), got)
		}
	}
}

const (
	account = "000000000000"
	ann     = "arn:aws:iam::000000000000:user/ann"
	role    = "arn:aws:iam::000000000000:role/app"
	session = "arn:aws:sts::000000000000:assumed-role/app/s"
)

var people = map[string]Principal{
	"ann":     {Account: account, ARN: ann},
	"session": {Account: account, ARN: session, Role: role},
	"other":   {Account: "111111111111", ARN: "arn:aws:iam::111111111111:user/o"},
	"ecs":     {Service: "ecs-tasks.amazonaws.com"},
	"github":  {Federated: "arn:aws:iam::000000000000:oidc-provider/token.actions.githubusercontent.com"},
}

// principalCases: what a resource's policy names, who asks, and how that is named.
const principalCases = `
Principal    "*"                                  ann     role
Principal    "*"                                  session role
Principal    "*"                                  other   role
Principal    "*"                                  ecs     role
Principal    {"AWS":"*"}                          ann     role
Principal    {"AWS":"000000000000"}               ann     account
Principal    {"AWS":"000000000000"}               session account
Principal    {"AWS":"000000000000"}               other   no
Principal    {"AWS":"arn:aws:iam::000000000000:root"} ann account
Principal    {"AWS":"arn:aws:iam::000000000000:root"} other no
Principal    {"AWS":"arn:aws:iam::000000000000:user/ann"} ann name
Principal    {"AWS":"arn:aws:iam::000000000000:user/ann"} session no
Principal    {"AWS":"arn:aws:iam::000000000000:user/bob"} ann no
Principal    {"AWS":"arn:aws:iam::000000000000:role/app"} session role
Principal    {"AWS":"arn:aws:iam::000000000000:role/app"} ann no
Principal    {"AWS":"arn:aws:iam::000000000000:role/ap"} session no
Principal    {"AWS":"arn:aws:sts::000000000000:assumed-role/app/s"} session name
Principal    {"AWS":"arn:aws:sts::000000000000:assumed-role/app/t"} session no
Principal    {"AWS":["arn:aws:iam::000000000000:role/app","arn:aws:sts::000000000000:assumed-role/app/s"]} session name
Principal    {"AWS":["111111111111","000000000000"]} ann account
Principal    {"AWS":["000000000000","arn:aws:iam::000000000000:user/ann"]} ann name
Principal    {"AWS":[]}                           ann     no
Principal    {"Service":"ecs-tasks.amazonaws.com"} ecs    name
Principal    {"Service":"ecs.amazonaws.com"}      ecs     no
Principal    {"Service":["ec2.amazonaws.com","ecs-tasks.amazonaws.com"]} ecs name
Principal    {"Service":"ecs-tasks.amazonaws.com"} ann    no
Principal    {"Service":"ecs.amazonaws.com","AWS":"000000000000"} ann account
Principal    {"Federated":"arn:aws:iam::000000000000:oidc-provider/token.actions.githubusercontent.com"} github name
Principal    {"Federated":"arn:aws:iam::000000000000:oidc-provider/gitlab.com"} github no
Principal    {"Federated":"arn:aws:iam::000000000000:oidc-provider/gitlab.com"} ann no
Principal    {"CanonicalUser":"abc"}              ann     no
NotPrincipal {"AWS":"arn:aws:iam::000000000000:user/ann"} ann no
NotPrincipal {"AWS":"arn:aws:iam::000000000000:user/ann"} session role
NotPrincipal {"AWS":"arn:aws:iam::000000000000:role/app"} session no
NotPrincipal {"AWS":"000000000000"}               ann     role
NotPrincipal {"AWS":"*"}                          ann     no
NotPrincipal {"Service":"ecs-tasks.amazonaws.com"} ecs    no
Principal    {"AWS":"ann"}                        ann     !
Principal    {"AWS":"arn:aws:iam::000000000000:user/*"} ann !
Principal    {"AWS":"arn:aws:iam::12:user/ann"}   ann     !
Principal    {"AWS":"arn:aws:s3:::b"}             ann     !
Principal    {"AWS":{}}                           ann     !
Principal    {"Everybody":"*"}                    ann     !
Principal    {"Service":"ecs"}                    ecs     !
Principal    "ann"                                ann     !
Principal    ["*"]                                ann     !
`

func TestPrincipals(t *testing.T) {
	names := map[string]naming{"no": notNamed, "account": byAccount, "role": byRole, "name": byName}
	for line := range strings.Lines(principalCases) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		d, err := Parse(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*",%q:%s}]}`, f[0], f[1]))
		if (err != nil) != (f[3] == "!") {
			t.Errorf("%s: %v", line, err)
		}
		if err != nil {
			continue
		}
		who := people[f[2]]
		if got := d.Statements[0].principals.names(&who); got != names[f[3]] {
			t.Errorf("%s: %d", strings.TrimSpace(line), got)
		}
	}
}
