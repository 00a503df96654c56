package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// The values of the test, which no two places but the container may know.
const (
	password = "correct-horse-battery-staple"
	token    = "tr0ub4dor-and-3"
)

// role makes a role for executing tasks; policy is what it may do, "" for nothing.
func (b *berth) role(name, policy string) string {
	b.t.Helper()
	c := iam.NewFromConfig(b.config())
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	out, err := c.CreateRole(context.Background(), &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust})
	if err == nil && policy != "" {
		_, err = c.PutRolePolicy(context.Background(), &iam.PutRolePolicyInput{RoleName: &name, PolicyName: &name, PolicyDocument: &policy})
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return *out.Role.Arn
}

// TestSecretsReachTheContainerAndNobodyElse: a parameter, a secret's key and an environment file are in the container's environment;
// no description, no log and no file of Berth's shows them, and a role without rights gets nothing.
func TestSecretsReachTheContainerAndNobodyElse(t *testing.T) {
	b := start(t)
	b.importBusybox(t, "busybox:1")
	ctx := context.Background()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(ssm.NewFromConfig(b.config()).PutParameter(ctx, &ssm.PutParameterInput{Name: new("/app/password"), Value: new(password), Type: ssmtypes.ParameterTypeSecureString}))
	secret, err := secretsmanager.NewFromConfig(b.config()).CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: new("app/db"),
		SecretString: new(`{"token":"` + token + `"}`)})
	must(secret, err)
	files := s3.NewFromConfig(b.config(), func(o *s3.Options) { o.UsePathStyle = true })
	must(files.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: new("config")}))
	must(files.PutObject(ctx, &s3.PutObjectInput{Bucket: new("config"), Key: new("app.env"), Body: strings.NewReader("# ours\nMODE=production\n")}))
	role := b.role("may", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ssm:GetParameters","secretsmanager:GetSecretValue","s3:GetObject"],"Resource":"*"}]}`)
	register := func(family, role string) string {
		t.Helper()
		out, err := b.ecs().RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{Family: &family, ExecutionRoleArn: &role, NetworkMode: types.NetworkModeBridge,
			ContainerDefinitions: []types.ContainerDefinition{{Name: new("app"), Image: new("busybox:1"), Memory: new(int32(64)), LogConfiguration: b.awslogs("/secrets"),
				Command:          []string{"/bin/sh", "-c", `printf %s "$PASSWORD.$TOKEN.$MODE" | /bin/busybox sha256sum; exec /bin/busybox sleep 1000`},
				EnvironmentFiles: []types.EnvironmentFile{{Type: types.EnvironmentFileTypeS3, Value: new("arn:aws:s3:::config/app.env")}},
				Secrets:          []types.Secret{{Name: new("PASSWORD"), ValueFrom: new("/app/password")}, {Name: new("TOKEN"), ValueFrom: new(*secret.ARN + ":token::")}}}}})
		must(out, err)
		return *out.TaskDefinition.TaskDefinitionArn
	}
	arn := b.run(register("app", role), 1, types.NetworkModeBridge)[0]
	b.reaches(arn, "RUNNING")
	want := fmt.Sprintf("%x", sha256.Sum256([]byte(password+"."+token+".production")))
	b.eventually(10*time.Second, "the container has said what it was given", func() error {
		out, err := cloudwatchlogs.NewFromConfig(b.config()).FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: new("/secrets")})
		if err != nil {
			return err
		}
		for _, e := range out.Events {
			if strings.HasPrefix(*e.Message, want) {
				return nil
			}
		}
		return fmt.Errorf("%d lines, none is %s", len(out.Events), want)
	})
	b.hidden(arn)

	refused := b.reaches(b.run(register("not", b.role("not", "")), 1, types.NetworkModeBridge)[0], "STOPPED")
	if reason := *refused.StoppedReason; !strings.HasPrefix(reason, "ResourceInitializationError: ") || !strings.Contains(reason, "is not authorized to perform: ssm:GetParameters") {
		t.Errorf("without rights it stopped for: %s", reason)
	}
}

// hidden looks for the values where they must not be.
func (b *berth) hidden(task string) {
	b.t.Helper()
	shows := func(where string, text []byte) {
		for _, v := range []string{password, token} {
			if bytes.Contains(text, []byte(v)) {
				b.t.Errorf("%s shows a secret", where)
			}
		}
	}
	ctx := context.Background()
	tasks, err := b.ecs().DescribeTasks(ctx, &ecs.DescribeTasksInput{Tasks: []string{task}})
	if err != nil {
		b.t.Fatal(err)
	}
	definition, err := b.ecs().DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: tasks.Tasks[0].TaskDefinitionArn})
	if err != nil {
		b.t.Fatal(err)
	}
	for where, v := range map[string]any{"DescribeTasks": tasks, "DescribeTaskDefinition": definition} {
		text, _ := json.Marshal(v)
		shows(where, text)
	}
	files := 0
	err = filepath.WalkDir(b.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			if d != nil && d.IsDir() && d.Name() == "containerd" { // the runtime's: what it starts, it must know
				return filepath.SkipDir
			}
			return nil
		}
		if text, err := os.ReadFile(name); err == nil {
			files++
			shows(strings.TrimPrefix(name, b.dir), text)
		}
		return nil
	})
	if err != nil || files < 10 {
		b.t.Errorf("%d files, %v", files, err)
	}
}

// TestTheStockCommandLineUsesS3: cp, ls, presign and rm.
func TestTheStockCommandLineUsesS3(t *testing.T) {
	bin, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("the aws command line is not installed")
	}
	b := start(t, "--runtime", "fake")
	large := filepath.Join(b.dir, "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte("berth"), 4<<20), 0o600); err != nil { // in parts
		t.Fatal(err)
	}
	config := filepath.Join(b.dir, "aws.config") // version 1 presigns as before 2014 unless it is told otherwise
	if err := os.WriteFile(config, []byte("[default]\ns3 =\n    signature_version = s3v4\n    addressing_style = path\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	aws := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(bin, append(args, "--endpoint-url", b.env["AWS_ENDPOINT_URL"])...)
		cmd.Env = b.environ("AWS_CONFIG_FILE=" + config)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	aws("s3", "mb", "s3://files")
	aws("s3", "cp", large, "s3://files/folder/large")
	if out := aws("s3", "ls", "s3://files"); !strings.Contains(out, "PRE folder/") {
		t.Error(out)
	}
	back := filepath.Join(b.dir, "back")
	aws("s3", "cp", "s3://files/folder/large", back)
	one, _ := os.ReadFile(large)
	two, _ := os.ReadFile(back)
	if !bytes.Equal(one, two) || len(one) == 0 {
		t.Errorf("%d bytes came back of %d", len(two), len(one))
	}
	if _, text, _, err := get(strings.TrimSpace(aws("s3", "presign", "s3://files/folder/large"))); err != nil || text != string(one) {
		t.Errorf("a presigned URL gives %d bytes, %v", len(text), err)
	}
	aws("s3", "rb", "s3://files", "--force")
}
