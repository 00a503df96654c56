package policy

import (
	"fmt"
	"strings"
	"testing"
)

// conditionCases: an operator, the policy's values (JSON), the request's values ("-": the key is missing; | between several) and whether
// the condition holds. The key is k unless the operator is written as operator@key. "!" stands for a document that is refused.
const conditionCases = `
StringEquals                 "a"             a          yes
StringEquals                 "a"             A          no
StringEquals                 "a"             b          no
StringEquals                 "a"             -          no
StringEquals                 ["a","b"]       b          yes
StringEquals                 ["a","b"]       c          no
StringEquals                 []              a          no
StringEquals                 "a*"            ab         no
StringEquals                 "a*"            a*         yes
StringEquals                 "a?"            ab         no
StringEquals                 true            true       yes
StringEquals                 5               5          yes
StringEquals                 "a"             a|b        no
StringEquals@aws:TagKeys     "a"             a          no
StringNotEquals@aws:TagKeys  "b"             a          no
StringLike@aws:TagKeys       "*"             a          no
StringEqualsIfExists         "a"             a          yes
StringEqualsIfExists         "a"             b          no
StringEqualsIfExists         "a"             -          yes
StringNotEquals              "a"             a          no
StringNotEquals              "a"             A          yes
StringNotEquals              "a"             b          yes
StringNotEquals              "a"             -          yes
StringNotEquals              ["a","b"]       b          no
StringNotEquals              ["a","b"]       c          yes
StringNotEqualsIfExists      "a"             -          yes
StringNotEqualsIfExists      "a"             a          no
StringEqualsIgnoreCase       "Abc"           aBC        yes
StringEqualsIgnoreCase       "Abc"           abd        no
StringEqualsIgnoreCase       "Abc"           -          no
StringEqualsIgnoreCaseIfExists "Abc"         -          yes
StringNotEqualsIgnoreCase    "Abc"           aBC        no
StringNotEqualsIgnoreCase    "Abc"           x          yes
StringNotEqualsIgnoreCase    "Abc"           -          yes
StringLike                   "a*"            abc        yes
StringLike                   "a*"            a          yes
StringLike                   "a*"            Abc        no
StringLike                   "a*"            ba         no
StringLike                   "*a"            ba         yes
StringLike                   "*a*b*"         xaxbx      yes
StringLike                   "*a*b*"         xbxax      no
StringLike                   "a?c"           abc        yes
StringLike                   "a?c"           ac         no
StringLike                   "a?c"           aéc        yes
StringLike                   "a??"           ab         no
StringLike                   "*"             anything   yes
StringLike                   "*"             -          no
StringLike                   "?*"            x          yes
StringLike                   "a*a"           a          no
StringLike                   "a*a"           aa         yes
StringLike                   "*ab"           aab        yes
StringLike                   "*aab"          aaab       yes
StringLike                   ["x*","y*"]     yy         yes
StringLikeIfExists           "a*"            -          yes
StringLikeIfExists           "a*"            b          no
StringNotLike                "a*"            abc        no
StringNotLike                "a*"            b          yes
StringNotLike                "a*"            -          yes
StringNotLike                ["a*","b*"]     bb         no
StringNotLike                ["a*","b*"]     cc         yes
StringNotLikeIfExists        "a*"            -          yes
NumericEquals                "10"            10         yes
NumericEquals                10              10.0       yes
NumericEquals                "10"            11         no
NumericEquals                "10"            -          no
NumericEquals                "10"            ten        no
NumericEquals                ["1","2"]       2          yes
NumericEquals                "ten"           10         !
NumericEqualsIfExists        "10"            -          yes
NumericNotEquals             "10"            10         no
NumericNotEquals             "10"            11         yes
NumericNotEquals             "10"            -          yes
NumericLessThan              "10"            9.5        yes
NumericLessThan              "10"            10         no
NumericLessThan              "10"            -1         yes
NumericLessThan              "10"            -          no
NumericLessThanEquals        "10"            10         yes
NumericLessThanEquals        "10"            10.1       no
NumericGreaterThan           "10"            11         yes
NumericGreaterThan           "10"            10         no
NumericGreaterThan           "10"            -          no
NumericGreaterThanEquals     "10"            10         yes
NumericGreaterThanEquals     "10"            9          no
NumericLessThanIfExists      "10"            -          yes
NumericLessThanIfExists      "10"            11         no
DateEquals                   "2026-01-02T03:04:05Z" 2026-01-02T03:04:05Z yes
DateEquals                   "2026-01-02T03:04:05Z" 2026-01-02T04:04:05+01:00 yes
DateEquals                   "2026-01-02T03:04:05Z" 1767323045 yes
DateEquals                   "2026-01-02T03:04:05Z" 2026-01-02T03:04:06Z no
DateEquals                   "2026-01-02T03:04:05Z" - no
DateEquals                   "2026-01-02"    2026-01-02T00:00:00Z yes
DateEquals                   "2026-01"       2026-01-01T00:00:00Z yes
DateEquals                   "2026"          2026-01-01 yes
DateEquals                   "no date"       2026-01-01 !
DateEquals                   "-1"            2026-01-01 !
DateNotEquals                "2026-01-02"    2026-01-02 no
DateNotEquals                "2026-01-02"    2026-01-03 yes
DateNotEquals                "2026-01-02"    -          yes
DateLessThan                 "2026-06-30T00:00:00Z" 2026-06-29T23:59:59Z yes
DateLessThan                 "2026-06-30T00:00:00Z" 2026-06-30T00:00:00Z no
DateLessThanEquals           "2026-06-30T00:00:00Z" 2026-06-30T00:00:00Z yes
DateLessThanEquals           "2026-06-30T00:00:00Z" 2026-06-30T00:00:00.5Z no
DateGreaterThan              "2026-06-30T00:00:00Z" 2026-07-01T00:00:00Z yes
DateGreaterThan              "2026-06-30T00:00:00Z" 2026-06-30T00:00:00Z no
DateGreaterThan              "2026-06-30T00:00:00Z" -  no
DateGreaterThanEquals        "2026-06-30T00:00:00Z" 2026-06-30T00:00:00Z yes
DateGreaterThanEquals        "2026-06-30T00:00Z" 2026-06-29T00:00:00Z no
DateLessThanIfExists         "2026-06-30"    -          yes
Bool                         "true"          true       yes
Bool                         true            true       yes
Bool                         "true"          false      no
Bool                         "false"         false      yes
Bool                         "TRUE"          true       yes
Bool                         "true"          -          no
Bool                         "false"         -          no
Bool                         "true"          yes        no
Bool                         "maybe"         true       !
BoolIfExists                 "true"          -          yes
BoolIfExists                 "true"          false      no
BinaryEquals                 "QmluYXJ5"      QmluYXJ5   yes
BinaryEquals                 "QmluYXJ5"      QmluYXJ6   no
BinaryEquals                 "QmluYXJ5"      -          no
BinaryEquals                 "%%"            QmluYXJ5   !
BinaryEqualsIfExists         "QmluYXJ5"      -          yes
IpAddress                    "203.0.113.0/24" 203.0.113.9 yes
IpAddress                    "203.0.113.0/24" 203.0.114.9 no
IpAddress                    "203.0.113.7/24" 203.0.113.9 yes
IpAddress                    "203.0.113.9"   203.0.113.9 yes
IpAddress                    "203.0.113.9"   203.0.113.8 no
IpAddress                    "203.0.113.0/24" -         no
IpAddress                    "203.0.113.0/24" here      no
IpAddress                    "203.0.113.0/24" ::ffff:203.0.113.9 yes
IpAddress                    "2001:db8::/32" 2001:db8::1 yes
IpAddress                    "2001:db8::/32" 2001:db9::1 no
IpAddress                    "2001:db8::/32" 10.0.0.1   no
IpAddress                    ["10.0.0.0/8","192.168.0.0/16"] 192.168.3.4 yes
IpAddress                    "300.0.0.0/8"   10.0.0.1   !
IpAddress                    "0.0.0.0/0"     10.0.0.1   yes
IpAddressIfExists            "10.0.0.0/8"    -          yes
NotIpAddress                 "203.0.113.0/24" 203.0.113.9 no
NotIpAddress                 "203.0.113.0/24" 198.51.100.1 yes
NotIpAddress                 "203.0.113.0/24" -         yes
NotIpAddress                 ["10.0.0.0/8","192.168.0.0/16"] 192.168.3.4 no
ArnEquals                    "arn:aws:s3:::b" arn:aws:s3:::b yes
ArnEquals                    "arn:aws:s3:::b" arn:aws:s3:::c no
ArnEquals                    "arn:aws:s3:::*" arn:aws:s3:::c yes
ArnEquals                    "arn:aws:s3:::b" - no
ArnLike                      "arn:aws:ecs:*:000000000000:cluster/*" arn:aws:ecs:us-east-1:000000000000:cluster/x yes
ArnLike                      "arn:aws:ecs:*:cluster/*" arn:aws:ecs:us-east-1:000000000000:cluster/x no
ArnLike                      "arn:aws:ecs:us-*-1:000000000000:cluster/x" arn:aws:ecs:us-east-1:000000000000:cluster/x yes
ArnLike                      "arn:aws:*"     arn:aws:ecs:us-east-1:000000000000:cluster/x no
ArnLike                      "*"             arn:aws:ecs:us-east-1:000000000000:cluster/x yes
ArnLike                      "arn:aws:sns:*:*:a:b" arn:aws:sns:us-east-1:000000000000:a:b yes
ArnLike                      "arn:aws:sns:*:*:a*" arn:aws:sns:us-east-1:000000000000:a:b yes
ArnLike                      "arn:aws:sns:*:*:a?" arn:aws:sns:us-east-1:000000000000:ab yes
ArnLike                      "arn:aws:sns:*:*:a" no-arn no
ArnLikeIfExists              "arn:aws:s3:::b" -  yes
ArnNotEquals                 "arn:aws:s3:::b" arn:aws:s3:::b no
ArnNotEquals                 "arn:aws:s3:::b" arn:aws:s3:::c yes
ArnNotEquals                 "arn:aws:s3:::b" -  yes
ArnNotLike                   "arn:aws:s3:::b*" arn:aws:s3:::bb no
ArnNotLike                   "arn:aws:s3:::b*" arn:aws:s3:::c yes
ArnNotLikeIfExists           "arn:aws:s3:::b*" - yes
Null                         "true"          -          yes
Null                         "true"          a          no
Null                         "false"         a          yes
Null                         "false"         -          no
Null                         true            -          yes
Null@aws:TagKeys             "false"         a|b        yes
NullIfExists                 "true"          -          !
ForAllValues:StringEquals    ["a","b"]       a          yes
ForAllValues:StringEquals    ["a","b"]       a|b        yes
ForAllValues:StringEquals    ["a","b"]       a|c        no
ForAllValues:StringEquals    ["a","b"]       -          yes
ForAllValues:StringEquals@aws:TagKeys "a"    a          yes
ForAllValues:StringEqualsIfExists "a"        -          yes
ForAllValues:StringLike      "a*"            ab|ac      yes
ForAllValues:StringLike      "a*"            ab|bc      no
ForAllValues:StringNotEquals "a"             b|c        yes
ForAllValues:StringNotEquals "a"             a|c        no
ForAllValues:StringNotEquals "a"             -          yes
ForAllValues:NumericLessThan "5"             1|4        yes
ForAllValues:NumericLessThan "5"             1|6        no
ForAllValues:ArnLike         "arn:aws:s3:::*" arn:aws:s3:::a|arn:aws:s3:::b yes
ForAllValues:Bool            "true"          true|true  yes
ForAnyValue:StringEquals     ["a","b"]       c|a        yes
ForAnyValue:StringEquals     ["a","b"]       c|d        no
ForAnyValue:StringEquals     "a"             -          no
ForAnyValue:StringEquals@aws:TagKeys "a"     b|a        yes
ForAnyValue:StringEqualsIfExists "a"         -          yes
ForAnyValue:StringNotEquals  "a"             a|b        yes
ForAnyValue:StringNotEquals  "a"             a          no
ForAnyValue:StringNotEquals  "a"             -          no
ForAnyValue:StringLike       "x*"            a|xx       yes
ForAnyValue:IpAddress        "10.0.0.0/8"    1.1.1.1|10.0.0.1 yes
ForAnyValue:NumericGreaterThan "5"           1|6        yes
StringEquals@K               "a"             a          yes
StringEquals@AWS:sourceip    "a"             -          no
StringBegins                 "a"             a          !
stringequals                 "a"             a          !
ForSomeValues:StringEquals   "a"             a          !
StringEquals                 {"a":"b"}       a          !
StringEquals                 null            a          !
StringEquals                 [["a"]]         a          !
StringEquals                 "${aws:username}" ann      yes
StringEquals                 "${aws:username}" bob      no
StringEquals                 "x${aws:UserName}y" xanny  yes
StringLike                   "${aws:username}*" ann-1   yes
StringLike                   "${nobody}*"    ann-1      no
StringLike                   "${nobody, 'ann'}*" ann-1  yes
StringLike                   "${nobody,'a*'}" abc       no
StringLike                   "${nobody,'a*'}" a*        yes
StringLike                   "${*}x"         *x         yes
StringLike                   "${*}x"         ax         no
StringLike                   "${?}"          ?          yes
StringLike                   "${?}"          a          no
StringLike                   "${$}{x}"       ${x}       yes
StringLike                   ["${nobody}","ann"] ann    yes
StringNotLike                "${nobody}"     ann        no
StringNotEquals              "${nobody}"     ann        no
StringEquals                 "${aws:TagKeys}" t         no
StringEqualsIgnoreCase       "${aws:username}" ANN      yes
ArnEquals                    "arn:aws:iam::000000000000:user/${aws:username}" arn:aws:iam::000000000000:user/ann yes
ArnEquals                    "arn:aws:iam::000000000000:user/${aws:username}" arn:aws:iam::000000000000:user/bob no
ArnNotEquals                 "arn:aws:iam::000000000000:user/${nobody}" arn:aws:iam::000000000000:user/bob no
`

func TestConditions(t *testing.T) {
	n := 0
	for line := range strings.Lines(conditionCases) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		n++
		op, rest, _ := strings.Cut(line, " ")
		rest, want := cutLast(rest)
		policy, request := cutLast(strings.TrimSpace(rest))
		op, key, ok := strings.Cut(op, "@")
		if !ok {
			key = "k"
		}
		doc := fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{%q:{%q:%s}}}}`, op, key, policy)
		d, err := Parse(doc)
		if (want == "!") != (err != nil) {
			t.Errorf("%s: %v", line, err)
		}
		if err != nil {
			continue
		}
		keys := Keys{"aws:username": {"ann"}}
		if request != "-" {
			keys.Set(key, strings.Split(request, "|")...)
		}
		if got := allowed(d, "ecs:RunTask", "*", keys); got != (want == "yes") {
			t.Errorf("%s: %v", line, got)
		}
	}
	t.Log(n, "cases")
}

func cutLast(s string) (before, last string) {
	i := strings.LastIndexByte(s, ' ')
	return strings.TrimSpace(s[:i]), s[i+1:]
}

func allowed(d *Document, action, resource string, keys Keys) bool {
	return Decide(&Subject{Identity: []Attached{{Document: d}}}, &Request{Action: action, Resource: resource, Keys: keys}).Allowed
}

// TestOperatorsAreAndKeysAre: several operators, and several keys of one, must all hold.
func TestOperatorsAreAndKeysAre(t *testing.T) {
	d, err := Parse(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{
		"StringEquals":{"a":"1","b":["2","3"]},"Bool":{"c":"true"}}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"1", "x"} {
		for _, b := range []string{"2", "3", "x"} {
			for _, c := range []string{"true", "false"} {
				keys := Keys{"a": {a}, "b": {b}, "c": {c}}
				if got, want := allowed(d, "a:b", "*", keys), a == "1" && b != "x" && c == "true"; got != want {
					t.Errorf("%v: %v", keys, got)
				}
			}
		}
	}
}

// TestVariablesOf2008 stand for themselves.
func TestVariablesOf2008(t *testing.T) {
	for version, want := range map[string]bool{`"Version":"2012-10-17",`: true, `"Version":"2008-10-17",`: false, "": false} {
		d, err := Parse(`{` + version + `"Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::home/${aws:username}/*"}]}`)
		if err != nil {
			t.Fatal(err)
		}
		keys := Keys{"aws:username": {"ann"}}
		if got := allowed(d, "s3:GetObject", "arn:aws:s3:::home/ann/x", keys); got != want {
			t.Errorf("%s: %v", version, got)
		}
		if got := allowed(d, "s3:GetObject", "arn:aws:s3:::home/${aws:username}/x", keys); got == want {
			t.Errorf("%s: the text itself %v", version, got)
		}
	}
}
