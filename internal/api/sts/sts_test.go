package sts_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	sdk "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/sts"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var (
	ctx   = context.Background()
	scope = model.Scope{Account: "000000000000", Region: "us-east-1"}
)

type rig struct {
	t    *testing.T
	keys *iam.Authority
	url  string
	now  time.Time
}

// newRig serves iam and sts with enforcement.
func newRig(t *testing.T) *rig {
	r := &rig{t: t, now: time.Now()}
	clock := func() time.Time { return r.now }
	var err error
	if r.keys, err = iam.Open(filepath.Join(t.TempDir(), "key"), scope, clock); err != nil {
		t.Fatal(err)
	}
	s := mem.New(store.Schema())
	t.Cleanup(func() { s.Close() })
	r.keys.Store = s
	srv := httptest.NewServer(wire.NewEndpoint(wire.Config{Keys: r.keys, Access: r.keys, Now: clock, Services: []*wire.Service{
		sts.New(sts.Config{Store: s, Scope: scope, Now: clock, Sessions: r.keys}), iam.New(iam.Config{Store: s, Scope: scope, Now: clock, Keys: r.keys})}}))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

func (r *rig) conf(id, secret, token string) aws.Config {
	return aws.Config{Region: "us-east-1", BaseEndpoint: &r.url, RetryMaxAttempts: 1, HTTPClient: wiretest.Client{},
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, token)}
}

func (r *rig) root() aws.Config {
	id, secret := r.keys.Root()
	return r.conf(id, secret, "")
}

func (r *rig) as(c *types.Credentials) *sdk.Client {
	return sdk.NewFromConfig(r.conf(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken))
}

// role makes a role with a trust and, unless it is "", a policy.
func (r *rig) role(name, trust, policy string) string {
	r.t.Helper()
	c := awsiam.NewFromConfig(r.root())
	out := wiretest.Must[*awsiam.CreateRoleOutput](r.t)(c.CreateRole(ctx, &awsiam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust}))
	if policy != "" {
		wiretest.Must[*awsiam.PutRolePolicyOutput](r.t)(c.PutRolePolicy(ctx, &awsiam.PutRolePolicyInput{RoleName: &name, PolicyName: aws.String("p"), PolicyDocument: &policy}))
	}
	return *out.Role.Arn
}

// user makes a user with a policy, unless it is "", and a key.
func (r *rig) user(name, policy string) aws.Config {
	r.t.Helper()
	c := awsiam.NewFromConfig(r.root())
	wiretest.Must[*awsiam.CreateUserOutput](r.t)(c.CreateUser(ctx, &awsiam.CreateUserInput{UserName: &name}))
	if policy != "" {
		wiretest.Must[*awsiam.PutUserPolicyOutput](r.t)(c.PutUserPolicy(ctx, &awsiam.PutUserPolicyInput{UserName: &name, PolicyName: aws.String("p"), PolicyDocument: &policy}))
	}
	key := wiretest.Must[*awsiam.CreateAccessKeyOutput](r.t)(c.CreateAccessKey(ctx, &awsiam.CreateAccessKeyInput{UserName: &name}))
	return r.conf(*key.AccessKey.AccessKeyId, *key.AccessKey.SecretAccessKey, "")
}

func trust(principal string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":` + principal + `,"Action":["sts:AssumeRole","sts:TagSession"]}]}`
}

func allow(action, resource string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":%q,"Resource":%q}]}`, action, resource)
}

func TestGetCallerIdentity(t *testing.T) {
	r := newRig(t)
	root, err := sdk.NewFromConfig(r.root()).GetCallerIdentity(ctx, nil)
	if err != nil || *root.Account != "000000000000" || *root.UserId != "000000000000" || *root.Arn != "arn:aws:iam::000000000000:root" {
		t.Errorf("%v %+v", err, root)
	}
	s := r.keys.Issue("arn:aws:iam::000000000000:role/app", "task-1", time.Hour)
	role, err := sdk.NewFromConfig(r.conf(s.AccessKeyID, s.SecretAccessKey, s.Token)).GetCallerIdentity(ctx, nil)
	if err != nil || *role.Arn != "arn:aws:sts::000000000000:assumed-role/app/task-1" {
		t.Errorf("%v %+v", err, role)
	}
	ann := sdk.NewFromConfig(r.user("ann", ""))
	who, err := ann.GetCallerIdentity(ctx, nil)
	if err != nil || *who.Arn != "arn:aws:iam::000000000000:user/ann" || !strings.HasPrefix(*who.UserId, "AIDA") {
		t.Errorf("%v %+v", err, who)
	}
	_, err = ann.GetFederationToken(ctx, &sdk.GetFederationTokenInput{Name: aws.String("x")})
	wiretest.Refused(t, err, "AccessDenied", "is not authorized to perform: sts:GetFederationToken on resource: * because no identity-based policy allows")
	_, err = sdk.NewFromConfig(r.root()).GetFederationToken(ctx, &sdk.GetFederationTokenInput{Name: aws.String("x")})
	wiretest.Refused(t, err, "UnsupportedOperationException", "does not support sts:GetFederationToken")
	_, err = sdk.NewFromConfig(r.root()).DecodeAuthorizationMessage(ctx, &sdk.DecodeAuthorizationMessageInput{EncodedMessage: aws.String("x")})
	wiretest.Refused(t, err, "InvalidAuthorizationMessageException", "")
}

func TestGetSessionToken(t *testing.T) {
	r := newRig(t)
	ann := sdk.NewFromConfig(r.user("ann", allow("sts:AssumeRole", "*")))
	out := wiretest.Must[*sdk.GetSessionTokenOutput](t)(ann.GetSessionToken(ctx, nil))
	if d := out.Credentials.Expiration.Sub(r.now); d < 12*time.Hour-2*time.Second || d > 12*time.Hour {
		t.Errorf("it lasts %v", d)
	}
	who, err := r.as(out.Credentials).GetCallerIdentity(ctx, nil)
	if err != nil || *who.Arn != "arn:aws:iam::000000000000:user/ann" {
		t.Errorf("%v %+v", err, who)
	}
	_, err = r.as(out.Credentials).GetSessionToken(ctx, nil)
	wiretest.Refused(t, err, "AccessDenied", "Cannot call GetSessionToken with session credentials")
	_, err = ann.GetSessionToken(ctx, &sdk.GetSessionTokenInput{DurationSeconds: aws.Int32(60)})
	wiretest.Refused(t, err, "ValidationError", "durationSeconds")
	info, err := ann.GetAccessKeyInfo(ctx, &sdk.GetAccessKeyInfoInput{AccessKeyId: out.Credentials.AccessKeyId})
	if err != nil || *info.Account != "000000000000" {
		t.Errorf("%v %+v", err, info)
	}
	_, err = ann.GetAccessKeyInfo(ctx, &sdk.GetAccessKeyInfoInput{AccessKeyId: aws.String("AKIAIOSFODNN7EXAMPLE")})
	wiretest.Refused(t, err, "ValidationError", "gave no access key")
	c := awsiam.NewFromConfig(r.root())
	wiretest.Must[*awsiam.DeleteUserPolicyOutput](t)(c.DeleteUserPolicy(ctx, &awsiam.DeleteUserPolicyInput{UserName: aws.String("ann"), PolicyName: aws.String("p")}))
	keys := wiretest.Must[*awsiam.ListAccessKeysOutput](t)(c.ListAccessKeys(ctx, &awsiam.ListAccessKeysInput{UserName: aws.String("ann")}))
	wiretest.Must[*awsiam.DeleteAccessKeyOutput](t)(c.DeleteAccessKey(ctx, &awsiam.DeleteAccessKeyInput{UserName: aws.String("ann"), AccessKeyId: keys.AccessKeyMetadata[0].AccessKeyId}))
	wiretest.Must[*awsiam.DeleteUserOutput](t)(c.DeleteUser(ctx, &awsiam.DeleteUserInput{UserName: aws.String("ann")}))
	_, err = r.as(out.Credentials).GetCallerIdentity(ctx, nil)
	wiretest.Refused(t, err, "InvalidClientTokenId", "The security token included in the request is invalid.")
}

func TestAssumeRole(t *testing.T) {
	r := newRig(t)
	ann := r.user("ann", allow("sts:AssumeRole", "arn:aws:iam::000000000000:role/*"))
	bob := r.user("bob", "")
	byName := r.role("byname", trust(`{"AWS":"arn:aws:iam::000000000000:user/bob"}`), allow("iam:ListRoles", "*"))
	byAccount := r.role("byaccount", trust(`{"AWS":"000000000000"}`), allow("iam:*", "*"))
	forECS := r.role("forecs", trust(`{"Service":"ecs-tasks.amazonaws.com"}`), "")
	assume := func(c aws.Config, role string, change ...func(*sdk.AssumeRoleInput)) (*sdk.AssumeRoleOutput, error) {
		in := &sdk.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("me")}
		for _, f := range change {
			f(in)
		}
		return sdk.NewFromConfig(c).AssumeRole(ctx, in)
	}
	refused := func(c aws.Config, who, role string) {
		t.Helper()
		wiretest.Refused(t, wiretest.Error(assume(c, role)), "AccessDenied", "User: arn:aws:iam::000000000000:user/"+who+
			" is not authorized to perform: sts:AssumeRole on resource: "+role)
	}
	refused(ann, "ann", byName)    // her policy alone is not enough
	refused(ann, "ann", forECS)    // it is not for people
	refused(bob, "bob", byAccount) // the account's delegation needs a policy
	refused(ann, "ann", "arn:aws:iam::000000000000:role/nobody")
	got := wiretest.Must[*sdk.AssumeRoleOutput](t)(assume(bob, byName)) // the trust names him
	if *got.AssumedRoleUser.Arn != "arn:aws:sts::000000000000:assumed-role/byname/me" || !strings.HasSuffix(*got.AssumedRoleUser.AssumedRoleId, ":me") {
		t.Errorf("%+v", got.AssumedRoleUser)
	}
	inRole := func(out *sdk.AssumeRoleOutput) aws.Config {
		c := out.Credentials
		return r.conf(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
	}
	iamOf := func(out *sdk.AssumeRoleOutput) *awsiam.Client { return awsiam.NewFromConfig(inRole(out)) }
	if _, err := iamOf(got).ListRoles(ctx, nil); err != nil {
		t.Error(err)
	}
	wiretest.Refused(t, wiretest.Error(iamOf(got).ListUsers(ctx, nil)), "AccessDenied", "User: arn:aws:sts::000000000000:assumed-role/byname/me is not "+
		"authorized to perform: iam:ListUsers on resource: * because no identity-based policy allows the iam:ListUsers action")
	all := wiretest.Must[*sdk.AssumeRoleOutput](t)(assume(ann, byAccount))
	if _, err := iamOf(all).CreateUser(ctx, &awsiam.CreateUserInput{UserName: aws.String("made")}); err != nil {
		t.Error(err)
	}
	narrow := wiretest.Must[*sdk.AssumeRoleOutput](t)(assume(ann, byAccount, func(in *sdk.AssumeRoleInput) { in.Policy = aws.String(allow("iam:ListRoles", "*")) }))
	if _, err := iamOf(narrow).ListRoles(ctx, nil); err != nil {
		t.Error(err)
	}
	wiretest.Refused(t, wiretest.Error(iamOf(narrow).ListUsers(ctx, nil)), "AccessDenied", "because no session policy allows the iam:ListUsers action")
	managed := wiretest.Must[*sdk.AssumeRoleOutput](t)(assume(ann, byAccount, func(in *sdk.AssumeRoleInput) {
		in.PolicyArns = []types.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::aws:policy/IAMReadOnlyAccess")}}
	}))
	if _, err := iamOf(managed).ListUsers(ctx, nil); err != nil {
		t.Error(err)
	}
	wiretest.Refused(t, wiretest.Error(iamOf(managed).DeleteUser(ctx, &awsiam.DeleteUserInput{UserName: aws.String("made")})), "AccessDenied",
		"iam:DeleteUser on resource: user made because no session policy allows")
	for name, change := range map[string]func(*sdk.AssumeRoleInput){
		"durationSeconds":                  func(in *sdk.AssumeRoleInput) { in.DurationSeconds = aws.Int32(60) },
		"exceeds the MaxSessionDuration":   func(in *sdk.AssumeRoleInput) { in.DurationSeconds = aws.Int32(7200) },
		"roleSessionName":                  func(in *sdk.AssumeRoleInput) { in.RoleSessionName = aws.String("a b") },
		"MultiFactorAuthentication failed": func(in *sdk.AssumeRoleInput) { in.SerialNumber, in.TokenCode = aws.String("x"), aws.String("123456") },
		"Syntax errors in policy.":         func(in *sdk.AssumeRoleInput) { in.Policy = aws.String("{}") },
	} {
		if err := wiretest.Error(assume(ann, byAccount, change)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.now = r.now.Add(2 * time.Hour)
	if _, _, err := r.keys.Secret(*all.Credentials.AccessKeyId, *all.Credentials.SessionToken); model.ErrorCode(err) != "ExpiredTokenException" {
		t.Errorf("after two hours: %v", err)
	}
}

// TestSessionTags: tags are the principal's, transitive ones go on to the next role.
func TestSessionTags(t *testing.T) {
	r := newRig(t)
	ann := r.user("ann", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["sts:AssumeRole","sts:TagSession"],"Resource":"*"}]}`)
	tagged := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:GetRole","Resource":"*","Condition":{"StringEquals":{
		"aws:PrincipalTag/team":"blue"}}},{"Effect":"Allow","Action":"sts:*","Resource":"*"}]}`
	first, second := r.role("first", trust(`{"AWS":"000000000000"}`), tagged), r.role("second", trust(`{"AWS":"000000000000"}`), tagged)
	open := func(c aws.Config, role string, tags ...types.Tag) *types.Credentials {
		out := wiretest.Must[*sdk.AssumeRoleOutput](t)(sdk.NewFromConfig(c).AssumeRole(ctx, &sdk.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("me"),
			Tags: tags, TransitiveTagKeys: func() (keys []string) {
				for _, t := range tags {
					keys = append(keys, *t.Key)
				}
				return keys
			}()}))
		return out.Credentials
	}
	may := func(c *types.Credentials) error {
		_, err := awsiam.NewFromConfig(r.conf(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)).GetRole(ctx, &awsiam.GetRoleInput{RoleName: aws.String("first")})
		return err
	}
	blue := open(ann, first, types.Tag{Key: aws.String("team"), Value: aws.String("blue")})
	next := open(r.conf(*blue.AccessKeyId, *blue.SecretAccessKey, *blue.SessionToken), second)
	for name, c := range map[string]*types.Credentials{"blue": blue, "what follows": next} {
		if err := may(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wiretest.Refused(t, may(open(ann, first)), "AccessDenied", "iam:GetRole on resource: role first because no identity-based policy")
	wiretest.Refused(t, may(open(ann, first, types.Tag{Key: aws.String("team"), Value: aws.String("red")})), "AccessDenied", "iam:GetRole")
}

// issuer is a provider of tokens, as GitHub is for its actions.
type issuer struct {
	*httptest.Server
	rsa   *rsa.PrivateKey
	ec    *ecdsa.PrivateKey
	asked int
	down  bool
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{}
	i.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	i.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	b64 := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked++
		switch {
		case i.down:
			w.WriteHeader(503)
		case r.URL.Path == "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"jwks_uri":"%s/keys"}`, i.URL)
		default:
			json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{
				{"kty": "RSA", "kid": "r", "n": b64(i.rsa.N), "e": "AQAB"},
				{"kty": "EC", "kid": "e", "crv": "P-256", "x": b64(i.ec.X), "y": b64(i.ec.Y)}, {"kty": "oct", "kid": "o"}}})
		}
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) thumbprint() string {
	sum := sha1.Sum(i.Certificate().Raw)
	return hex.EncodeToString(sum[:])
}

func (i *issuer) token(alg, kid string, claims map[string]any) string {
	part := func(v any) string {
		data, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(data)
	}
	signed := part(map[string]string{"alg": alg, "kid": kid}) + "." + part(claims)
	sum := sha256.Sum256([]byte(signed))
	var sig []byte
	if alg == "ES256" {
		r, s, _ := ecdsa.Sign(rand.Reader, i.ec, sum[:])
		sig = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	} else if alg != "none" {
		sig, _ = rsa.SignPKCS1v15(rand.Reader, i.rsa, crypto.SHA256, sum[:])
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func TestAssumeRoleWithWebIdentity(t *testing.T) {
	r, is := newRig(t), newIssuer(t)
	host := strings.TrimPrefix(is.URL, "https://")
	c := awsiam.NewFromConfig(r.root())
	made := wiretest.Must[*awsiam.CreateOpenIDConnectProviderOutput](t)(c.CreateOpenIDConnectProvider(ctx, &awsiam.CreateOpenIDConnectProviderInput{
		Url: &is.URL, ClientIDList: []string{"sts.amazonaws.com"}, ThumbprintList: []string{is.thumbprint()}}))
	role := r.role("ci", fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":%q},"Action":"sts:AssumeRoleWithWebIdentity",
		"Condition":{"StringEquals":{"%s:aud":"sts.amazonaws.com"},"StringLike":{"%s:sub":"repo:acme/*"}}}]}`, *made.OpenIDConnectProviderArn, host, host),
		allow("iam:ListRoles", "*"))
	anonymous := sdk.NewFromConfig(aws.Config{Region: "us-east-1", BaseEndpoint: &r.url, RetryMaxAttempts: 1, HTTPClient: wiretest.Client{},
		Credentials: aws.AnonymousCredentials{}})
	claims := func(change ...string) map[string]any {
		m := map[string]any{"iss": is.URL, "sub": "repo:acme/x:ref:refs/heads/main", "aud": "sts.amazonaws.com", "exp": r.now.Add(time.Minute).Unix()}
		for i := 0; i+1 < len(change); i += 2 {
			m[change[i]] = change[i+1]
		}
		return m
	}
	assume := func(token string) (*sdk.AssumeRoleWithWebIdentityOutput, error) {
		return anonymous.AssumeRoleWithWebIdentity(ctx, &sdk.AssumeRoleWithWebIdentityInput{RoleArn: &role, RoleSessionName: aws.String("ci"), WebIdentityToken: &token})
	}
	for alg, kid := range map[string]string{"RS256": "r", "ES256": "e"} {
		out, err := assume(is.token(alg, kid, claims()))
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		if *out.Provider != *made.OpenIDConnectProviderArn || *out.SubjectFromWebIdentityToken != "repo:acme/x:ref:refs/heads/main" {
			t.Errorf("%+v", out)
		}
		if _, err := awsiam.NewFromConfig(r.conf(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken)).ListRoles(ctx, nil); err != nil {
			t.Error(err)
		}
	}
	if is.asked != 2 {
		t.Errorf("the provider was asked %d times", is.asked)
	}
	other := newIssuer(t)
	for name, c := range map[string]struct{ token, code, text string }{
		"another's subject":   {is.token("RS256", "r", claims("sub", "repo:evil/x")), "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		"another audience":    {is.token("RS256", "r", claims("aud", "you")), "InvalidIdentityToken", "Incorrect token audience"},
		"an unknown issuer":   {other.token("RS256", "r", claims("iss", other.URL)), "InvalidIdentityToken", "No OpenIDConnect provider found"},
		"a forger":            {other.token("RS256", "r", claims()), "InvalidIdentityToken", "does not verify"},
		"no signature":        {is.token("none", "r", claims()), "InvalidIdentityToken", "does not verify"},
		"an unknown key":      {is.token("RS256", "x", claims()), "InvalidIdentityToken", "does not verify"},
		"a key of another":    {is.token("RS256", "e", claims()), "InvalidIdentityToken", "does not verify"},
		"no token":            {"abc", "InvalidIdentityToken", "not a valid JWT"},
		"three empty parts":   {"..", "InvalidIdentityToken", "not a valid JWT"},
		"an issuer with http": {is.token("RS256", "r", claims("iss", "http://"+host)), "InvalidIdentityToken", "No OpenIDConnect provider"},
	} {
		t.Run(name, func(t *testing.T) { wiretest.Refused(t, wiretest.Error(assume(c.token)), c.code, c.text) })
	}
	late := claims()
	late["exp"] = r.now.Add(-time.Hour).Unix()
	wiretest.Refused(t, wiretest.Error(assume(is.token("RS256", "r", late))), "ExpiredToken", "Token expired")
	// A provider that does not answer is not asked by everybody who calls.
	is.down = true
	r.now = r.now.Add(2 * time.Hour)
	is.asked = 0
	for range 5 {
		wiretest.Refused(t, wiretest.Error(assume(is.token("RS256", "r", claims()))), "InvalidIdentityToken", "Couldn't retrieve verification key")
	}
	if is.asked != 1 {
		t.Errorf("asked %d times while it is down", is.asked)
	}
	// Nothing else goes without a signature.
	_, err := anonymous.GetCallerIdentity(ctx, nil)
	wiretest.Refused(t, err, "MissingAuthenticationToken", "")
}

// TestProvidersAreWhoTheySay: a provider whose certificate nobody vouches for is not believed.
func TestProvidersAreWhoTheySay(t *testing.T) {
	r, is := newRig(t), newIssuer(t)
	c := awsiam.NewFromConfig(r.root())
	made := wiretest.Must[*awsiam.CreateOpenIDConnectProviderOutput](t)(c.CreateOpenIDConnectProvider(ctx, &awsiam.CreateOpenIDConnectProviderInput{
		Url: &is.URL, ClientIDList: []string{"a"}, ThumbprintList: []string{strings.Repeat("00", 20)}}))
	role := r.role("ci", fmt.Sprintf(`{"Statement":[{"Effect":"Allow","Principal":{"Federated":%q},"Action":"sts:AssumeRoleWithWebIdentity"}]}`, *made.OpenIDConnectProviderArn), "")
	token := is.token("RS256", "r", map[string]any{"iss": is.URL, "sub": "s", "aud": "a", "exp": r.now.Add(time.Minute).Unix()})
	_, err := sdk.NewFromConfig(r.root()).AssumeRoleWithWebIdentity(ctx, &sdk.AssumeRoleWithWebIdentityInput{RoleArn: &role, RoleSessionName: aws.String("ci"), WebIdentityToken: &token})
	wiretest.Refused(t, err, "InvalidIdentityToken", "Couldn't retrieve verification key")
}
