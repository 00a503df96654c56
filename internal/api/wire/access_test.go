package wire_test

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awslogs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	awsecr "github.com/aws/aws-sdk-go-v2/service/ecr"
	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	awselb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/berthdev/berth/internal/api/ecs"
	"github.com/berthdev/berth/internal/api/iam"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

// enforced serves everything with the policies of an IAM that has one role, app, whose only policy is doc.
func enforced(t *testing.T, doc string) (root, task aws.Config) {
	keys, err := iam.Open(filepath.Join(t.TempDir(), "root.json"), scope, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	st := mem.New(store.Schema())
	t.Cleanup(func() { st.Close() })
	keys.Store = st
	all := servers(t)
	services := []*wire.Service{iam.New(iam.Config{Store: st, Scope: scope, Now: time.Now, Keys: keys}), ecs.New(ecs.Config{Store: st, Scope: scope})}
	for _, s := range all {
		if s.Name != "iam" {
			services = append(services, s)
		}
	}
	srv := httptest.NewServer(wire.NewEndpoint(wire.Config{Keys: keys, Access: keys, Services: services}))
	t.Cleanup(srv.Close)
	conf := func(id, secret, token string) aws.Config {
		return aws.Config{Region: "us-east-1", BaseEndpoint: &srv.URL, RetryMaxAttempts: 1, HTTPClient: wiretest.Client{},
			Credentials: credentials.NewStaticCredentialsProvider(id, secret, token)}
	}
	id, secret := keys.Root()
	root = conf(id, secret, "")
	c := awsiam.NewFromConfig(root)
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	for _, name := range []string{"app", "admin"} {
		wiretest.Must[*awsiam.CreateRoleOutput](t)(c.CreateRole(ctx, &awsiam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust}))
	}
	wiretest.Must[*awsiam.PutRolePolicyOutput](t)(c.PutRolePolicy(ctx, &awsiam.PutRolePolicyInput{RoleName: aws.String("app"), PolicyName: aws.String("p"), PolicyDocument: &doc}))
	s := keys.Issue("arn:aws:iam::000000000000:role/app", "0123", time.Hour)
	return root, conf(s.AccessKeyID, s.SecretAccessKey, s.Token)
}

const taskARN = "arn:aws:sts::000000000000:assumed-role/app/0123"

func denial(action, resource string) string {
	return fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action", taskARN, action, resource, action)
}

// TestAHostileTask: who has a task's credentials gets no further than its role: not into another role, not to a user of its own, not to a
// task with another role; and what it may do, it may do where its policy says.
func TestAHostileTask(t *testing.T) {
	root, task := enforced(t, `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["ecs:RunTask","ecs:RegisterTaskDefinition","ecs:CreateCluster"],"Resource":"*"},
		{"Effect":"Allow","Action":"ecs:DescribeTasks","Resource":"arn:aws:ecs:*:*:task/default/*"},
		{"Effect":"Allow","Action":"ecs:ListServices","Resource":"*","Condition":{"ArnEquals":{"ecs:cluster":"arn:aws:ecs:us-east-1:000000000000:cluster/mine"}}},
		{"Effect":"Allow","Action":"logs:PutLogEvents","Resource":"arn:aws:logs:*:*:log-group:/app:*"},
		{"Effect":"Allow","Action":"ecr:DescribeImages","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"app"}}}]}`)
	for _, name := range []string{"app/mine", "app/other"} {
		c := awsecr.NewFromConfig(root)
		wiretest.Must[*awsecr.CreateRepositoryOutput](t)(c.CreateRepository(ctx, &awsecr.CreateRepositoryInput{RepositoryName: &name}))
	}
	sts, roles, tasks := awssts.NewFromConfig(task), awsiam.NewFromConfig(task), awsecs.NewFromConfig(task)
	admin := aws.String("arn:aws:iam::000000000000:role/admin")
	refused := func(err error, code, text string) {
		t.Helper()
		wiretest.Refused(t, err, code, text)
	}
	who, err := sts.GetCallerIdentity(ctx, nil)
	if err != nil || *who.Arn != taskARN {
		t.Errorf("%v %+v", err, who)
	}
	refused(wiretest.Error(sts.AssumeRole(ctx, &awssts.AssumeRoleInput{RoleArn: admin, RoleSessionName: aws.String("me")})), "AccessDenied",
		"User: "+taskARN+" is not authorized to perform: sts:AssumeRole on resource: "+*admin)
	refused(wiretest.Error(sts.GetSessionToken(ctx, nil)), "AccessDenied", "Cannot call GetSessionToken with session credentials")
	refused(wiretest.Error(roles.CreateUser(ctx, &awsiam.CreateUserInput{UserName: aws.String("me")})), "AccessDenied", denial("iam:CreateUser", "user me"))
	refused(wiretest.Error(roles.PutRolePolicy(ctx, &awsiam.PutRolePolicyInput{RoleName: aws.String("app"), PolicyName: aws.String("x"), PolicyDocument: aws.String("{}")})),
		"AccessDenied", denial("iam:PutRolePolicy", "role app"))
	refused(wiretest.Error(roles.CreateAccessKey(ctx, &awsiam.CreateAccessKeyInput{UserName: aws.String("bob")})), "AccessDenied", denial("iam:CreateAccessKey", "user bob"))
	definition := func(role *string) *awsecs.RegisterTaskDefinitionInput {
		return &awsecs.RegisterTaskDefinitionInput{Family: aws.String("f"), TaskRoleArn: role, ContainerDefinitions: []ecstypes.ContainerDefinition{
			{Name: aws.String("c"), Image: aws.String("i"), Memory: aws.Int32(64)}}}
	}
	refused(wiretest.Error(tasks.RegisterTaskDefinition(ctx, definition(admin))), "AccessDeniedException", denial("iam:PassRole", *admin))
	refused(wiretest.Error(tasks.RegisterTaskDefinition(ctx, definition(aws.String("admin")))), "AccessDeniedException", denial("iam:PassRole", *admin))
	if _, err := tasks.RegisterTaskDefinition(ctx, definition(nil)); err != nil {
		t.Error(err)
	}
	run := func(o *ecstypes.TaskOverride) error {
		return wiretest.Error(tasks.RunTask(ctx, &awsecs.RunTaskInput{TaskDefinition: aws.String("f"), Overrides: o}))
	}
	refused(run(&ecstypes.TaskOverride{TaskRoleArn: admin}), "AccessDeniedException", denial("iam:PassRole", *admin))
	refused(run(&ecstypes.TaskOverride{ExecutionRoleArn: admin}), "AccessDeniedException", denial("iam:PassRole", *admin))
	if err := run(nil); err == nil || strings.Contains(err.Error(), "AccessDenied") { // there is no cluster here
		t.Errorf("without a role: %v", err)
	}
	describe := func(cluster string) error {
		return wiretest.Error(tasks.DescribeTasks(ctx, &awsecs.DescribeTasksInput{Cluster: &cluster, Tasks: []string{"0123456789abcdef0123456789abcdef"}}))
	}
	refused(describe("prod"), "AccessDeniedException", denial("ecs:DescribeTasks", "arn:aws:ecs:us-east-1:000000000000:task/prod/0123456789abcdef0123456789abcdef"))
	refused(describe("default"), "ClusterNotFoundException", "")
	refused(wiretest.Error(tasks.ListServices(ctx, &awsecs.ListServicesInput{Cluster: aws.String("mine")})), "ClusterNotFoundException", "")
	refused(wiretest.Error(tasks.ListServices(ctx, &awsecs.ListServicesInput{Cluster: aws.String("other")})), "AccessDeniedException", denial("ecs:ListServices", "*"))
	refused(wiretest.Error(tasks.CreateCluster(ctx, &awsecs.CreateClusterInput{ClusterName: aws.String("x"), Tags: []ecstypes.Tag{{Key: aws.String("k"), Value: aws.String("v")}}})),
		"AccessDeniedException", denial("ecs:TagResource", "arn:aws:ecs:us-east-1:000000000000:cluster/x"))
	refused(wiretest.Error(awsec2.NewFromConfig(task).DescribeVpcs(ctx, nil)), "UnauthorizedOperation",
		"You are not authorized to perform this operation. "+denial("ec2:DescribeVpcs", "*"))
	refused(wiretest.Error(awselb.NewFromConfig(task).DescribeLoadBalancers(ctx, nil)), "AccessDenied", denial("elasticloadbalancing:DescribeLoadBalancers", "*"))
	lines := awslogs.NewFromConfig(task)
	put := func(group string) error {
		return wiretest.Error(lines.PutLogEvents(ctx, &awslogs.PutLogEventsInput{LogGroupName: &group, LogStreamName: aws.String("s"),
			LogEvents: []logstypes.InputLogEvent{{Message: aws.String("m"), Timestamp: aws.Int64(time.Now().UnixMilli())}}}))
	}
	refused(put("/other"), "AccessDeniedException", denial("logs:PutLogEvents", "arn:aws:logs:us-east-1:000000000000:log-group:/other:log-stream:s"))
	if err := put("/app"); err == nil || strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("its own log: %v", err)
	}
	images := awsecr.NewFromConfig(task)
	refused(wiretest.Error(images.DescribeImages(ctx, &awsecr.DescribeImagesInput{RepositoryName: aws.String("app/other")})), "AccessDeniedException",
		denial("ecr:DescribeImages", "arn:aws:ecr:us-east-1:000000000000:repository/app/other"))
}
