package policy

import (
	"strings"
	"testing"
)

// refusals: a document for an identity and what AWS says of it ("" when it takes it). 'S' stands for the beginning of a good document,
// with one statement's start, 'E' for its end.
var refusals = [][2]string{
	{`no json`, "Syntax errors in policy."},
	{``, "Syntax errors in policy."},
	{`[]`, "Syntax errors in policy."},
	{`{}`, "Syntax errors in policy."},
	{`{"Version":"2012-10-17"}`, "Syntax errors in policy."},
	{`{"Version":"2012-10-17","Statement":[]}`, "Syntax errors in policy."},
	{`{"Version":"2012-10-17","Statement":["x"]}`, "Syntax errors in policy."},
	{`{"Version":"2012-10-17","Statement":"x"}`, "Syntax errors in policy."},
	{`{"Version":"2013-10-17","Statement":{"Effect":"Allow","Action":"a:b","Resource":"*"}}`, "Syntax errors in policy."},
	{`{"Version":2012,"Statement":{"Effect":"Allow","Action":"a:b","Resource":"*"}}`, "Syntax errors in policy."},
	{`{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"a:b","Resource":"*"}}`, "Policy document must be version 2012-10-17 or greater."},
	{`{"Statement":{"Effect":"Allow","Action":"a:b","Resource":"*"}}`, "Policy document must be version 2012-10-17 or greater."},
	{`{"Version":"2012-10-17","Id":"x","Statement":{"Effect":"Allow","Action":"a:b","Resource":"*"}}`, ""},
	{`{"Version":"2012-10-17","Id":{},"Statement":{"Effect":"Allow","Action":"a:b","Resource":"*"}}`, "Syntax errors in policy."},
	{`{"Version":"2012-10-17","Extra":"x","Statement":{"Effect":"Allow","Action":"a:b","Resource":"*"}}`, "Syntax errors in policy."},
	{`{"Version":"2012-10-17","Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"a:b","Resource":"*"}}`, "Syntax errors in policy."},
	{`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"a:b","Resource":"*"}} x`, "Syntax errors in policy."},
	{`S"Action":"a:b","Resource":"*"E`, ""},
	{`S"Action":"a:b","Resource":"*","Extra":1E`, "Syntax errors in policy."},
	{`S"Action":"a:b","Resource":"*","Sid":"abc1"E`, ""},
	{`S"Action":"a:b","Resource":"*","Sid":""E`, ""},
	{`S"Action":"a:b","Resource":"*","Sid":1E`, "Syntax errors in policy."},
	{`S"Action":"a:b","Resource":"*","Sid":"a b"E`, "Statement IDs (SID) must be alpha-numeric."},
	{`{"Version":"2012-10-17","Statement":[{"Sid":"a","Effect":"Allow","Action":"a:b","Resource":"*"},{"Sid":"a","Effect":"Deny","Action":"a:b","Resource":"*"}]}`,
		"Statement IDs (SID) in a single policy must be unique."},
	{`{"Version":"2012-10-17","Statement":{"Action":"a:b","Resource":"*"}}`, "Syntax errors in policy."},
	{`{"Version":"2012-10-17","Statement":{"Effect":"Maybe","Action":"a:b","Resource":"*"}}`, "Syntax errors in policy."},
	{`{"Version":"2012-10-17","Statement":{"Effect":"allow","Action":"a:b","Resource":"*"}}`, "The policy failed legacy parsing"},
	{`{"Version":"2012-10-17","Statement":{"Effect":true,"Action":"a:b","Resource":"*"}}`, "Syntax errors in policy."},
	{`S"Action":"*","Resource":"*"E`, ""},
	{`S"Action":"invalid","Resource":"*"E`, "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."},
	{`S"NotAction":"","Resource":"*"E`, "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."},
	{`S"Action":"a a:ListBucket","Resource":"*"E`, "Vendor a a is not valid"},
	{`S"Action":"s3:List:Bucket","Resource":"*"E`, "Actions/Condition can contain only one colon."},
	{`S"Action":"a:b","NotAction":"a:b","Resource":"*"E`, "Syntax errors in policy."},
	{`S"Action":{},"Resource":"*"E`, "Syntax errors in policy."},
	{`S"Action":[[]],"Resource":"*"E`, "Syntax errors in policy."},
	{`S"Action":[],"Resource":"*"E`, "Policy statement must contain actions."},
	{`S"Resource":"*"E`, "Policy statement must contain actions."},
	{`S"Action":"a:b"E`, "Policy statement must contain resources."},
	{`S"Action":"a:b","Resource":[]E`, "Policy statement must contain resources."},
	{`S"Action":"a:b","NotResource":"arn:aws:s3:::x"E`, ""},
	{`S"Action":"a:b","Resource":"*","NotResource":[]E`, "Syntax errors in policy."},
	{`S"Action":"a:b","Resource":{"a":"b"}E`, "Syntax errors in policy."},
	{`S"Action":"a:b","Resource":["x",{}]E`, "Syntax errors in policy."},
	{`S"Action":"a:b","Resource":"invalid resource"E`, `Resource invalid resource must be in ARN format or "*".`},
	{`S"Action":"a:b","Resource":""E`, `Resource  must be in ARN format or "*".`},
	{`S"Action":"a:b","Resource":"a:bsdfdsafsad"E`, `Partition "bsdfdsafsad" is not valid for resource "arn:bsdfdsafsad:*:*:*:*".`},
	{`S"Action":"a:b","Resource":"a:b:cadfsdf"E`, `Partition "b" is not valid for resource "arn:b:cadfsdf:*:*:*".`},
	{`S"Action":"a:b","Resource":"a:b:c:d:e:f:g:h"E`, `Partition "b" is not valid for resource "arn:b:c:d:e:f:g:h".`},
	{`S"Action":"a:b","Resource":"aws:s3:::example_bucket"E`, `Partition "s3" is not valid for resource "arn:s3:::example_bucket:*".`},
	{`S"Action":"a:b","Resource":"arn:error:s3:::example_bucket"E`, `Partition "error" is not valid for resource "arn:error:s3:::example_bucket".`},
	{`S"Action":"a:b","Resource":"arn:aws:iam:::example_bucket"E`, `IAM resource path must either be "*" or start with user/, federated-user/, role/`},
	{`S"Action":"a:b","Resource":"arn:aws:iam:us-east-1:000000000000:user/x"E`, "IAM resource arn:aws:iam:us-east-1:000000000000:user/x cannot contain region information."},
	{`S"Action":"a:b","Resource":"arn:aws:s3:us-east-1::x"E`, "Resource arn:aws:s3:us-east-1::x can not contain region information."},
	{`S"Action":"a:b","Resource":"arn:aws:s3::example_bucket"E`, "The policy failed legacy parsing"},
	{`S"Resource":"arn:aws:s3::example_bucket"E`, "The policy failed legacy parsing"},
	{`S"Action":"a:b","Resource":"arn:aws"E`, "Resource vendor must be fully qualified and cannot contain regexes."},
	{`S"Action":"a:b","Resource":"arn:aws:iam::000000000000:role/*"E`, ""},
	{`S"Action":"a:b","Resource":"arn:aws:iam::000000000000:*"E`, ""},
	{`S"Action":"a:b","Resource":"arn:*:iam::*:role/${aws:username}"E`, ""},
	{`S"Action":"a:b","Resource":["arn:aws:logs:*:*:*","arn:aws:s3:::b/${aws:PrincipalTag/x, 'd'}/*"]E`, ""},
	{`S"Action":"a:b","Resource":"*","Principal":"*"E`, "Policy document should not specify a principal."},
	{`S"Action":"a:b","Resource":"*","NotPrincipal":{"AWS":"000000000000"}E`, "Policy document should not specify a principal."},
	{`S"Action":"a:b","Resource":"*","Condition":[]E`, "Syntax errors in policy."},
	{`S"Action":"a:b","Resource":"*","Condition":"a"E`, "Syntax errors in policy."},
	{`S"Action":"a:b","Resource":"*","Condition":{"a":"b"}E`, "Syntax errors in policy."},
	{`S"Action":"a:b","Resource":"*","Condition":{"a":{}}E`, ""},
	{`S"Action":"a:b","Resource":"*","Condition":{"a":{"b":"c"}}E`, "Syntax errors in policy."},
	{`S"Action":"a:b","Resource":"*","Condition":{"DateGreaterThan":"b"}E`, "Syntax errors in policy."},
	{`S"Action":"a:b","Resource":"*","Condition":{"DateGreaterThan":{"a":"b"}}E`, "The policy failed legacy parsing"},
	{`S"Action":"a:b","Resource":"*","Condition":{"StringEquals":{"aws:TagKeys":["a","b"]}}E`, ""},
}

func TestValidate(t *testing.T) {
	for _, c := range refusals {
		text := c[0]
		if strings.HasPrefix(text, "S") {
			text = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",` + text[1:len(text)-1] + "}]}"
		}
		_, err := Validate(text, ForIdentity)
		if (err == nil) != (c[1] == "") || err != nil && !strings.HasPrefix(err.Error(), c[1]) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestValidateTrustAndResources(t *testing.T) {
	for _, c := range []struct {
		kind       Kind
		text, want string
	}{
		{ForTrust, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}`, ""},
		{ForTrust, `{"Version":"2008-10-17","Statement":[{"Sid":"","Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}`, ""},
		{ForTrust, `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"000000000000"},"Action":["sts:AssumeRole","sts:TagSession"]}]}`, ""},
		{ForTrust, `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"bob"},"Action":"sts:AssumeRole"}]}`, `Invalid principal in policy: "AWS":"bob"`},
		{ForTrust, `{"Statement":[{"Effect":"Allow","Principal":{"Service":"bob"},"Action":"sts:AssumeRole"}]}`, `Invalid principal in policy: "SERVICE":"bob"`},
		{ForTrust, `{"Statement":[{"Effect":"Allow","Action":"sts:AssumeRole"}]}`, "AssumeRole policy must contain principals."},
		{ForTrust, `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject"}]}`, "AssumeRole policy may only specify STS AssumeRole actions."},
		{ForTrust, `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}]}`, "Has prohibited field Resource"},
		{ForResource, `{"Version":"2008-10-17","Statement":[{"Sid":"a b","Effect":"Allow","Principal":"*","Action":"ecr:BatchGetImage"}]}`, ""},
		{ForResource, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecr:BatchGetImage","Resource":"*"}]}`, "Missing required field Principal"},
		{ForResource, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`, ""},
	} {
		_, err := Validate(c.text, c.kind)
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%s: %v", c.text, err)
		}
	}
}
