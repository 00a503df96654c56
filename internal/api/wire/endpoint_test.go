package wire_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	awsecr "github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"
	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/berthdev/berth/internal/api/ec2"
	"github.com/berthdev/berth/internal/api/ecr"
	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/sts"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

type fixture struct {
	t    *testing.T
	srv  *httptest.Server
	keys *iam.Authority
	now  time.Time
	conf aws.Config
}

var scope = model.Scope{Account: "000000000000", Region: "us-east-1"}

func setup(t *testing.T) *fixture {
	f := &fixture{t: t, now: time.Now()}
	clock := func() time.Time { return f.now }
	var err error
	file := filepath.Join(t.TempDir(), "key")
	if f.keys, err = iam.Open(file, scope, clock); err != nil {
		t.Fatal(err)
	}
	st := mem.New(store.Schema())
	log := slog.New(slog.DiscardHandler)
	broken := &wire.Service{Name: "ecs", Target: "AmazonEC2ContainerServiceV20141113"}
	wire.Handle(broken, func(context.Context, *awsecs.ListClustersInput) (*awsecs.ListClustersOutput, error) {
		panic("a mistake")
	})
	f.srv = httptest.NewServer(wire.NewEndpoint(wire.Config{Keys: f.keys, Access: f.keys, Now: clock, Log: log, MaxBody: 1 << 20,
		Services: []*wire.Service{
			sts.New(sts.Config{Store: st, Now: time.Now}), ec2.New(ec2.Config{Store: st, Network: ec2.DefaultNetwork(scope), Now: time.Now, NewID: func() string { return strings.Repeat("0", 32) }}), broken,
			ecr.New(ecr.Config{Store: st, Scope: scope, Tokens: f.keys, Host: "localhost:1", Now: clock, Log: log})}}))
	t.Cleanup(f.srv.Close)
	id, secret, _ := iam.ReadRoot(file)
	f.conf = aws.Config{Region: "us-east-1", BaseEndpoint: &f.srv.URL, RetryMaxAttempts: 1, HTTPClient: wiretest.Client{},
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, "")}
	return f
}

func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

var ctx = context.Background()

func TestStockClientsAreServed(t *testing.T) {
	f := setup(t)
	who, err := awssts.NewFromConfig(f.conf).GetCallerIdentity(ctx, nil)
	if err != nil || *who.Account != scope.Account || *who.Arn != "arn:aws:iam::000000000000:root" {
		t.Errorf("%v %+v", err, who)
	}
	net := awsec2.NewFromConfig(f.conf)
	vpcs, err := net.DescribeVpcs(ctx, &awsec2.DescribeVpcsInput{Filters: []ec2types.Filter{{Name: aws.String("isDefault"),
		Values: []string{"true"}}}})
	if err != nil || len(vpcs.Vpcs) != 1 || !*vpcs.Vpcs[0].IsDefault || *vpcs.Vpcs[0].CidrBlock != ec2.CIDR ||
		len(vpcs.Vpcs[0].CidrBlockAssociationSet) != 1 {
		t.Fatalf("%v %+v", err, vpcs)
	}
	subnets, err := net.DescribeSubnets(ctx, &awsec2.DescribeSubnetsInput{Filters: []ec2types.Filter{
		{Name: aws.String("vpc-id"), Values: []string{*vpcs.Vpcs[0].VpcId}}, {Name: aws.String("availability-zone"),
			Values: []string{"us-east-?b"}}}})
	if err != nil || len(subnets.Subnets) != 1 || *subnets.Subnets[0].AvailabilityZone != "us-east-1b" {
		t.Errorf("%v %+v", err, subnets)
	}
	groups, err := net.DescribeSecurityGroups(ctx, &awsec2.DescribeSecurityGroupsInput{GroupNames: []string{"default"}})
	if err != nil || len(groups.SecurityGroups) != 1 || *groups.SecurityGroups[0].Description != "default VPC security group" ||
		*groups.SecurityGroups[0].IpPermissionsEgress[0].IpRanges[0].CidrIp != "0.0.0.0/0" {
		t.Errorf("%v %+v", err, groups)
	}
	dns, err := net.DescribeVpcAttribute(ctx, &awsec2.DescribeVpcAttributeInput{VpcId: vpcs.Vpcs[0].VpcId,
		Attribute: ec2types.VpcAttributeNameEnableDnsSupport})
	if err != nil || dns.EnableDnsSupport == nil || !*dns.EnableDnsSupport.Value {
		t.Errorf("%v %+v", err, dns)
	}
	_, err = net.DescribeSubnets(ctx, &awsec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-0"}})
	if code(err) != "InvalidSubnetID.NotFound" {
		t.Errorf("an unknown subnet: %v", err)
	}
}

func TestRepositoriesThroughTheSDK(t *testing.T) {
	f := setup(t)
	c := awsecr.NewFromConfig(f.conf)
	name := aws.String("team/app")
	out, err := c.CreateRepository(ctx, &awsecr.CreateRepositoryInput{RepositoryName: name})
	if err != nil || *out.Repository.RepositoryUri != "localhost:1/team/app" || out.Repository.CreatedAt.IsZero() {
		t.Fatalf("%v %+v", err, out)
	}
	_, err = c.CreateRepository(ctx, &awsecr.CreateRepositoryInput{RepositoryName: name})
	if e, ok := errors.AsType[*ecrtypes.RepositoryAlreadyExistsException](err); !ok ||
		*e.Message != "The repository with name 'team/app' already exists in the registry with id '000000000000'" {
		t.Errorf("a second time: %v", err)
	}
	for in, want := range map[string]string{"A": "InvalidParameterException", "none": "RepositoryNotFoundException"} {
		if _, err := c.ListImages(ctx, &awsecr.ListImagesInput{RepositoryName: aws.String(in + in)}); code(err) != want {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
	images, err := c.DescribeImages(ctx, &awsecr.DescribeImagesInput{RepositoryName: name})
	if err != nil || images.ImageDetails == nil {
		t.Errorf("%v %+v", err, images)
	}
	if _, err := c.DescribeImages(ctx, &awsecr.DescribeImagesInput{RepositoryName: name,
		ImageIds: []ecrtypes.ImageIdentifier{{ImageTag: aws.String("v1")}}}); err == nil ||
		!strings.Contains(err.Error(), "{imageDigest:'null', imageTag:'v1'}") {
		t.Errorf("%v", err)
	}
	token, err := c.GetAuthorizationToken(ctx, nil)
	if err != nil || token.AuthorizationData[0].ExpiresAt.Before(f.now.Add(11*time.Hour)) {
		t.Errorf("%v %+v", err, token)
	}
}

func TestSignaturesAreChecked(t *testing.T) {
	f := setup(t)
	good, _ := f.conf.Credentials.Retrieve(ctx)
	session := f.keys.Issue("arn:aws:iam::000000000000:role/app", "t", time.Hour)
	for name, c := range map[string]struct {
		id, secret, token, wantJSON, wantQuery string
	}{
		"root":           {good.AccessKeyID, good.SecretAccessKey, "", "", ""},
		"a task's role":  {session.AccessKeyID, session.SecretAccessKey, session.Token, "AccessDeniedException", ""},
		"a wrong secret": {good.AccessKeyID, "x", "", "InvalidSignatureException", "SignatureDoesNotMatch"},
		"an unknown key": {"AKIANOBODY", "x", "", "UnrecognizedClientException", "InvalidClientTokenId"},
		"a forged token": {session.AccessKeyID, session.SecretAccessKey, session.Token + "x", "UnrecognizedClientException",
			"InvalidClientTokenId"},
		"another's token": {good.AccessKeyID, good.SecretAccessKey, session.Token, "UnrecognizedClientException",
			"InvalidClientTokenId"},
	} {
		conf := f.conf
		conf.Credentials = credentials.NewStaticCredentialsProvider(c.id, c.secret, c.token)
		if _, err := awsecr.NewFromConfig(conf).DescribeRepositories(ctx, nil); code(err) != c.wantJSON {
			t.Errorf("%s, JSON: %v", name, err)
		}
		if _, err := awssts.NewFromConfig(conf).GetCallerIdentity(ctx, nil); code(err) != c.wantQuery {
			t.Errorf("%s, query: %v", name, err)
		}
	}
	f.now = f.now.Add(16 * time.Minute)
	if _, err := awsecr.NewFromConfig(f.conf).DescribeRepositories(ctx, nil); code(err) != "InvalidSignatureException" {
		t.Errorf("an old signature: %v", err)
	}
	res, err := http.Post(f.srv.URL, "application/x-amz-json-1.1", strings.NewReader("{}"))
	if err != nil || res.StatusCode != 403 {
		t.Errorf("no signature: %v %v", res, err)
	}
}

// changed alters each request after it was signed.
type changed func(*http.Request)

func (c changed) Do(r *http.Request) (*http.Response, error) {
	c(r)
	return http.DefaultClient.Do(r)
}

func TestChangedRequestsAreRefused(t *testing.T) {
	f := setup(t)
	call := func(c changed) error {
		_, err := awsecr.NewFromConfig(f.conf, func(o *awsecr.Options) { o.HTTPClient = c }).
			CreateRepository(ctx, &awsecr.CreateRepositoryInput{RepositoryName: aws.String("abc")})
		return err
	}
	setBody := func(r *http.Request, b string) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(b)), int64(len(b))
	}
	for name, c := range map[string]struct {
		change changed
		want   string
	}{
		"the body": {func(r *http.Request) { setBody(r, `{"repositoryName":"xyz"}`) }, "InvalidSignatureException"},
		"the operation": {func(r *http.Request) {
			r.Header.Set("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.DeleteRepository")
		}, "InvalidSignatureException"},
		"an unsigned header":     {func(r *http.Request) { r.Header.Set("X-Other", "1") }, ""},
		"a body past all bounds": {func(r *http.Request) { setBody(r, strings.Repeat("x", 2<<20)) }, "RequestEntityTooLargeException"},
		"the authorization": {func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 nonsense") },
			"IncompleteSignatureException"},
		"the authorization's way": {func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") },
			"IncompleteSignatureException"},
	} {
		if err := call(c.change); code(err) != c.want {
			t.Errorf("%s was changed: %v, want %s", name, err, c.want)
		}
	}
}

// rewritten replaces the body before it is signed.
func rewritten(body []byte, header ...string) func(*awsecr.Options) {
	return func(o *awsecr.Options) {
		o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error {
			return s.Build.Add(middleware.BuildMiddlewareFunc("rewrite", func(ctx context.Context, in middleware.BuildInput,
				next middleware.BuildHandler) (
				middleware.BuildOutput, middleware.Metadata, error) {
				r := in.Request.(*smithyhttp.Request)
				if r, err := r.SetStream(bytes.NewReader(body)); err == nil {
					in.Request = r
					for i := 0; i < len(header); i += 2 {
						r.Header.Set(header[i], header[i+1])
					}
				}
				return next.HandleBuild(ctx, in)
			}), middleware.Before)
		})
	}
}

func TestBadBodiesAreNamed(t *testing.T) {
	f := setup(t)
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte(`{"repositoryName":"zipped"}`))
	w.Close()
	for name, c := range map[string]struct {
		body   []byte
		header []string
		want   string
	}{
		"no JSON":        {[]byte(`{"repositoryName":`), nil, "SerializationException"},
		"a list":         {[]byte(`[]`), nil, "SerializationException"},
		"a wrong type":   {[]byte(`{"repositoryName":["abc"]}`), nil, "SerializationException"},
		"two values":     {[]byte(`{"repositoryName":"abc"}{}`), nil, "SerializationException"},
		"no gzip":        {[]byte(`{}`), []string{"Content-Encoding", "gzip"}, "SerializationException"},
		"gzip":           {z.Bytes(), []string{"Content-Encoding", "gzip"}, ""},
		"unknown member": {[]byte(`{"repositoryName":"known","other":{"x":[1]}}`), nil, ""},
		"null":           {[]byte(`{"repositoryName":null}`), nil, "InvalidParameterException"},
	} {
		_, err := awsecr.NewFromConfig(f.conf, rewritten(c.body, c.header...)).
			CreateRepository(ctx, &awsecr.CreateRepositoryInput{RepositoryName: aws.String("abc")})
		if code(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestFaultsAreHidden(t *testing.T) {
	f := setup(t)
	c := awsecs.NewFromConfig(f.conf)
	if _, err := c.ListClusters(ctx, nil); code(err) != "ServerException" || strings.Contains(err.Error(), "a mistake") {
		t.Errorf("a panic: %v", err)
	}
	if _, err := c.ExecuteCommand(ctx, &awsecs.ExecuteCommandInput{Command: aws.String("x"), Task: aws.String("y"),
		Interactive: true}); code(err) != "UnsupportedOperationException" {
		t.Errorf("an operation that Berth lacks: %v", err)
	}
	r := f.request("{}")
	r.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113.DescribeNothing")
	if got := f.send(f.sign(r, hashOf("{}"), "ecs", f.now)); got.code != "UnknownOperationException" {
		t.Errorf("an operation that nobody has: %+v", got)
	}
	if _, err := awsiam.NewFromConfig(f.conf).ListRoles(ctx, nil); code(err) != "UnsupportedOperationException" {
		t.Errorf("a service that Berth lacks: %v", err)
	}
}

// TestSessionsOfRolesAreRefusedAsOnAWS: the text, the code and the status are those of each protocol.
func TestSessionsOfRolesAreRefusedAsOnAWS(t *testing.T) {
	f := setup(t)
	session := f.keys.Issue("arn:aws:iam::000000000000:role/app", "0123", time.Hour)
	role := f.conf
	role.Credentials = credentials.NewStaticCredentialsProvider(session.AccessKeyID, session.SecretAccessKey, session.Token)
	_, err := awsecr.NewFromConfig(role).CreateRepository(ctx, &awsecr.CreateRepositoryInput{RepositoryName: aws.String("x/y")})
	wiretest.Refused(t, err, "AccessDeniedException", "User: arn:aws:sts::000000000000:assumed-role/app/0123 is not authorized to perform: "+
		"ecr:CreateRepository on resource: arn:aws:ecr:us-east-1:000000000000:repository/x/y because no identity-based policy allows the ecr:CreateRepository action")
	_, err = awssts.NewFromConfig(role).GetFederationToken(ctx, &awssts.GetFederationTokenInput{Name: aws.String("x")})
	wiretest.Refused(t, err, "AccessDenied", "is not authorized to perform: sts:GetFederationToken")
	_, err = awsec2.NewFromConfig(role).DescribeVpcs(ctx, &awsec2.DescribeVpcsInput{DryRun: aws.Bool(true)})
	wiretest.Refused(t, err, "UnauthorizedOperation", "You are not authorized to perform this operation. User: arn:aws:sts::")
	_, err = awsec2.NewFromConfig(f.conf).DescribeVpcs(ctx, &awsec2.DescribeVpcsInput{DryRun: aws.Bool(true)})
	wiretest.Refused(t, err, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); !ok || e.HTTPStatusCode() != 412 {
		t.Errorf("a dry run: %v", err)
	}
	token, err := awsecr.NewFromConfig(role).GetAuthorizationToken(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := base64.StdEncoding.DecodeString(*token.AuthorizationData[0].AuthorizationToken)
	if who, err := f.keys.CheckRegistryToken(strings.TrimPrefix(string(password), "AWS:")); err != nil || !strings.HasSuffix(who, "/app/0123") {
		t.Errorf("the registry takes a session's token for %q: %v", who, err)
	}
}
