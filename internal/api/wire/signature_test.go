package wire_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"
	"pgregory.net/rapid"

	"github.com/aws/aws-sdk-go-v2/credentials"
)

// whoAmI is a request that only its signature can spoil.
const whoAmI = "Action=GetCallerIdentity&Version=2011-06-15"

// sent is an answer.
type sent struct {
	status  int
	kind    string
	body    string
	code    string // of an error
	message string
}

func (f *fixture) send(r *http.Request) sent {
	f.t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	if res.Header.Get("x-amzn-RequestId") == "" {
		f.t.Error("an answer without request id")
	}
	s := sent{status: res.StatusCode, kind: res.Header.Get("Content-Type"), body: string(b)}
	var plain struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	var element struct {
		Error struct{ Code, Message string }
	}
	if json.Unmarshal(b, &plain) == nil {
		s.code, s.message = plain.Type, plain.Message
	} else if xml.Unmarshal(b, &element) == nil {
		s.code, s.message = element.Error.Code, element.Error.Message
	}
	return s
}

func hashOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// request makes a POST of a form; sign signs it as what the caller says.
func (f *fixture) request(body string) *http.Request {
	r, err := http.NewRequest("POST", f.srv.URL+"/", strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return r
}

func (f *fixture) sign(r *http.Request, hash, service string, at time.Time) *http.Request {
	creds, _ := f.conf.Credentials.Retrieve(ctx)
	if err := v4.NewSigner().SignHTTP(ctx, creds, r, hash, service, "eu-west-3", at); err != nil {
		f.t.Fatal(err)
	}
	return r
}

// TestPresignedRequests sends what the SDK's presigner makes, and then too late.
func TestPresignedRequests(t *testing.T) {
	f := setup(t)
	get := func(u string) sent {
		r, err := http.NewRequest("GET", u, nil)
		if err != nil {
			t.Fatal(err)
		}
		return f.send(r)
	}
	made, err := awssts.NewPresignClient(awssts.NewFromConfig(f.conf)).PresignGetCallerIdentity(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := get(made.URL); got.status != 200 || !strings.Contains(got.body, "<Arn>arn:aws:iam::000000000000:root</Arn>") {
		t.Errorf("%+v", got)
	}
	session := f.keys.Issue("arn:aws:iam::000000000000:role/app", "t", time.Hour)
	conf := f.conf
	conf.Credentials = credentials.NewStaticCredentialsProvider(session.AccessKeyID, session.SecretAccessKey, session.Token)
	role, err := awssts.NewPresignClient(awssts.NewFromConfig(conf)).PresignGetCallerIdentity(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := get(role.URL); got.status != 200 || !strings.Contains(got.body, "assumed-role/app/t") {
		t.Errorf("%+v", got)
	}
	for name, change := range map[string]func(url.Values){
		"the action": func(q url.Values) { q.Set("Action", "GetSessionToken") },
		"more":       func(q url.Values) { q.Set("Other", "1") },
		"the life":   func(q url.Values) { q.Set("X-Amz-Expires", "604800") },
		"the credential": func(q url.Values) {
			q.Set("X-Amz-Credential", strings.Replace(q.Get("X-Amz-Credential"), "us-east-1", "us-east-2", 1))
		},
	} {
		u, _ := url.Parse(made.URL)
		q := u.Query()
		change(q)
		u.RawQuery = q.Encode()
		if got := get(u.String()); got.status != 403 || got.code != "SignatureDoesNotMatch" {
			t.Errorf("%s was changed: %+v", name, got)
		}
	}
	f.now = f.now.Add(16 * time.Minute)
	if got := get(made.URL); got.status != 403 || !strings.HasPrefix(got.message, "Signature expired") {
		t.Errorf("too late: %+v", got)
	}
}

func TestWhatPresignedRequestsLack(t *testing.T) {
	f := setup(t)
	whole := url.Values{"Action": {"GetCallerIdentity"}, "X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Signature": {"0"},
		"X-Amz-SignedHeaders": {"host"},
		"X-Amz-Credential":    {"AKIA/20260101/us-east-1/sts/aws4_request"}, "X-Amz-Date": {"20260101T000000Z"}}
	for name, value := range map[string]string{"X-Amz-Algorithm": "AWS4-ECDSA-P256-SHA256", "X-Amz-Signature": "",
		"X-Amz-SignedHeaders": "",
		"X-Amz-Credential":    "a/b", "X-Amz-Date": "yesterday", "X-Amz-Expires": "604801"} {
		q := url.Values{}
		for k, v := range whole {
			q[k] = v
		}
		q.Set(name, value)
		r, _ := http.NewRequest("GET", f.srv.URL+"/?"+q.Encode(), nil)
		if got := f.send(r); got.status != 403 || got.code != "IncompleteSignature" {
			t.Errorf("%s=%s: %+v", name, value, got)
		}
	}
}

// TestSignaturesOfOtherClients: clients differ in what they sign.
func TestSignaturesOfOtherClients(t *testing.T) {
	f := setup(t)
	const agent = "me  and   you"
	for name, c := range map[string]struct {
		prepare func(r *http.Request) (hash string)
		after   func(r *http.Request)
	}{
		"the body's hash as a header": {prepare: func(r *http.Request) string {
			r.Header.Set("X-Amz-Content-Sha256", hashOf(whoAmI))
			return hashOf(whoAmI)
		}},
		"an unsigned body": {prepare: func(r *http.Request) string {
			r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
			return "UNSIGNED-PAYLOAD"
		}},
		"no length": {prepare: func(r *http.Request) string { r.ContentLength = 0; return hashOf(whoAmI) },
			after: func(r *http.Request) { r.ContentLength = int64(len(whoAmI)) }},
		"the user agent": {prepare: func(r *http.Request) string {
			r.Header["user-agent"] = []string{agent} // the signer leaves the usual spelling out
			return hashOf(whoAmI)
		}, after: func(r *http.Request) {
			delete(r.Header, "user-agent")
			r.Header.Set("User-Agent", agent)
		}},
		"a header of many values": {prepare: func(r *http.Request) string {
			r.Header["X-Amz-Many"] = []string{"a", " b "}
			return hashOf(whoAmI)
		}},
		"a chunked body": {prepare: func(*http.Request) string { return hashOf(whoAmI) }, after: func(r *http.Request) {
			r.ContentLength = -1
			r.Body = io.NopCloser(strings.NewReader(whoAmI))
		}},
		"a query in the URL": {prepare: func(r *http.Request) string {
			r.URL.RawQuery = "b=%20x+y&a=%2F~&b=1&c"
			return hashOf(whoAmI)
		}},
		"a path": {prepare: func(r *http.Request) string {
			r.URL.Path = "/a b/é"
			return hashOf(whoAmI)
		}},
	} {
		r := f.request(whoAmI)
		hash := c.prepare(r)
		f.sign(r, hash, "sts", f.now)
		if c.after != nil {
			c.after(r)
		}
		if got := f.send(r); got.status != 200 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestBadSignaturesAreRefused(t *testing.T) {
	f := setup(t)
	good := hashOf(whoAmI)
	for name, c := range map[string]struct {
		r             *http.Request
		code, message string
		status        int
	}{
		"no signature":    {f.request(whoAmI), "MissingAuthenticationToken", "Missing Authentication Token", 403},
		"another service": {f.sign(f.request(whoAmI), good, "ec2", f.now), "", "", 400}, // EC2 has no such version
		"the future": {f.sign(f.request(whoAmI), good, "sts", f.now.Add(16*time.Minute)), "SignatureDoesNotMatch",
			"Signature not yet current: ", 403},
		"the past": {f.sign(f.request(whoAmI), good, "sts", f.now.Add(-16*time.Minute)), "SignatureDoesNotMatch",
			"Signature expired: ", 403},
		"another body's hash": {f.sign(f.request(whoAmI), hashOf("x"), "sts", f.now), "SignatureDoesNotMatch",
			"The request signature we calculated", 403},
		"an unsigned body that is not said to be": {f.sign(f.request(whoAmI), "UNSIGNED-PAYLOAD", "sts", f.now),
			"SignatureDoesNotMatch",
			"The request signature we calculated", 403},
	} {
		got := f.send(c.r)
		if got.status != c.status || got.code != c.code || !strings.HasPrefix(got.message, c.message) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	r := f.request("{}")
	r.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113.ListClusters")
	if got := f.send(f.sign(r, hashOf("{}"), "ecr", f.now)); got.code != "InvalidSignatureException" ||
		got.message != "Credential should be scoped to correct service: 'ecs'." {
		t.Errorf("ecs with a signature for ecr: %+v", got)
	}
	r = f.sign(f.request("{}"), hashOf("{}"), "ecs", f.now)
	r.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113.ListClusters")
	if got := f.send(r); got.code != "InvalidSignatureException" || !strings.HasPrefix(got.message, "'X-Amz-Target' must be") {
		t.Errorf("an operation that is not signed: %+v", got)
	}
	conf := f.conf
	conf.Credentials = credentials.NewStaticCredentialsProvider("AKIANOBODY", "x", "")
	if _, err := awsec2.NewFromConfig(conf).DescribeVpcs(ctx, nil); code(err) != "AuthFailure" {
		t.Errorf("EC2 and an unknown key: %v", err)
	}
}

// TestSignaturesOfAnything: whatever a client signs with the SDK's signer is accepted, and not with another body.
func TestSignaturesOfAnything(t *testing.T) {
	f := setup(t)
	creds, _ := f.conf.Credentials.Retrieve(ctx)
	rapid.Check(t, func(t *rapid.T) {
		body := whoAmI + "&Tag=" + url.QueryEscape(rapid.String().Draw(t, "tag"))
		r, err := http.NewRequest("POST", f.srv.URL+"/", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i, v := range rapid.SliceOfN(rapid.StringMatching(`[ -~]{0,20}`), 0, 4).Draw(t, "headers") {
			r.Header.Set(fmt.Sprintf("X-Test-%d", i), v)
		}
		q := url.Values{}
		for i, v := range rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "query") {
			q.Add(fmt.Sprintf("p%d", i%2), v)
		}
		r.URL.RawQuery = q.Encode()
		r.URL.Path = "/" + rapid.StringMatching(`[ -~]{0,10}`).Draw(t, "path")
		if err := v4.NewSigner().SignHTTP(ctx, creds, r, hashOf(body), "sts", "us-east-1", f.now); err != nil {
			t.Fatal(err)
		}
		if got := f.send(r); got.status != 200 {
			t.Fatalf("%s %v: %+v", r.URL, r.Header, got)
		}
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body+"x")), int64(len(body)+1)
		if got := f.send(r); got.code != "SignatureDoesNotMatch" {
			t.Fatalf("a longer body: %+v", got)
		}
	})
}

// TestServicesThatBerthLacks are refused in the protocol that the client speaks.
func TestServicesThatBerthLacks(t *testing.T) {
	f := setup(t)
	const message = "Berth does not serve eks yet"
	r, _ := http.NewRequest("GET", f.srv.URL+"/clusters", nil)
	got := f.send(f.sign(r, hashOf(""), "eks", f.now))
	if got.status != 400 || got.kind != "application/json" || got.code != "UnsupportedOperationException" || got.message != message {
		t.Errorf("REST: %+v", got)
	}
	r = f.request("{}")
	r.Header.Set("X-Amz-Target", "Eks.ListClusters")
	if got := f.send(f.sign(r, hashOf("{}"), "eks", f.now)); got.kind != "application/x-amz-json-1.1" || got.message != message {
		t.Errorf("JSON: %+v", got)
	}
	if got := f.send(f.sign(f.request(whoAmI), hashOf(whoAmI), "eks", f.now)); got.kind != "text/xml" || got.message != message {
		t.Errorf("query: %+v", got)
	}
	for body, want := range map[string]string{"Action=GetCallerIdentity&Version=1999-01-01": "NoSuchVersion",
		"Version=2011-06-15":                "MissingAction",
		"Action=Nothing&Version=2011-06-15": "InvalidAction", "Action=AssumeRoot&Version=2011-06-15": "UnsupportedOperationException",
		"Action=%ZZ": "MalformedQueryString"} {
		if got := f.send(f.sign(f.request(body), hashOf(body), "sts", f.now)); got.code != want || got.status != 400 {
			t.Errorf("%s: %+v", body, got)
		}
	}
}
