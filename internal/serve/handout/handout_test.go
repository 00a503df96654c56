package handout

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

var ctx = context.Background()

const secretARN = "arn:aws:secretsmanager:us-east-1:000000000000:secret:app/db-AbCdEf"

// shelf is a Source with a few things on it; asked are the requests.
type shelf struct {
	parameters, secrets, files map[string]string
	asked                      []string
}

func (s *shelf) source() Source {
	return Source{Region: "us-east-1", Invoke: func(_ context.Context, region, service, op string, in []byte) ([]byte, error) {
		s.asked = append(s.asked, region+" "+op)
		var ask struct {
			Names                             []string
			SecretId, VersionStage, VersionId string
		}
		if err := json.Unmarshal(in, &ask); err != nil {
			return nil, err
		}
		if op == "GetSecretValue" {
			v, ok := s.secrets[strings.TrimSpace(ask.SecretId+" "+ask.VersionStage+ask.VersionId)]
			if !ok {
				return nil, model.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
			}
			return json.Marshal(map[string]string{"SecretString": v})
		}
		var all []map[string]string
		for _, n := range ask.Names {
			if v, ok := s.parameters[n]; ok {
				all = append(all, map[string]string{"Name": strings.TrimPrefix(n, "arn:aws:ssm:eu-west-1:000000000000:parameter"), "ARN": n, "Value": v})
			}
		}
		return json.Marshal(map[string]any{"Parameters": all})
	}, Object: func(_ context.Context, arn string, _ int64) ([]byte, error) {
		if v, ok := s.files[arn]; ok {
			return []byte(v), nil
		}
		return nil, model.Errorf("NotFound", "Not Found")
	}}
}

func container(secrets ...string) types.ContainerDefinition {
	c := types.ContainerDefinition{Name: new("app")}
	for i, from := range secrets {
		c.Secrets = append(c.Secrets, types.Secret{Name: new(fmt.Sprint("S", i)), ValueFrom: &from})
	}
	return c
}

func TestGather(t *testing.T) {
	s := &shelf{parameters: map[string]string{"/app/url": "u", "plain": "p", "arn:aws:ssm:eu-west-1:000000000000:parameter/far": "f"},
		secrets: map[string]string{secretARN: `{"password":"pw","port":5432,"tags":["a"]}`, secretARN + " AWSPREVIOUS": "old", secretARN + " v1": "first",
			"registry": `{"username":"me","password":"secret"}`},
		files: map[string]string{"arn:aws:s3:::b/a.env": "# comment\nA=1\nB = two words\n\nnonsense\n"}}
	c := container("/app/url", "plain", "arn:aws:ssm:eu-west-1:000000000000:parameter/far", secretARN, secretARN+":password::", secretARN+":port::",
		secretARN+"::AWSPREVIOUS:", secretARN+":::v1", secretARN+":tags::")
	c.EnvironmentFiles = []types.EnvironmentFile{{Type: types.EnvironmentFileTypeS3, Value: new("arn:aws:s3:::b/a.env")}}
	c.RepositoryCredentials = &types.RepositoryCredentials{CredentialsParameter: new("registry")}
	c.LogConfiguration = &types.LogConfiguration{SecretOptions: []types.Secret{{Name: new("splunk-token"), ValueFrom: new("plain")}}}
	got, err := Gather(ctx, s.source(), []types.ContainerDefinition{c, {Name: new("bare")}}, true)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, v := range got.Containers["app"].Secrets {
		values = append(values, v.Name+"="+v.Value)
	}
	want := []string{"S0=u", "S1=p", "S2=f", `S3={"password":"pw","port":5432,"tags":["a"]}`, "S4=pw", "S5=5432", "S6=old", "S7=first", `S8=["a"]`}
	if !slices.Equal(values, want) {
		t.Errorf("got  %q\nwant %q", values, want)
	}
	app := got.Containers["app"]
	if app.LogOptions["splunk-token"] != "p" || app.Registry.Username != "me" || app.Registry.Password != "secret" || len(got.Containers) != 1 ||
		!reflect.DeepEqual(app.Files, []model.Variable{{Name: "A", Value: "1"}, {Name: "B", Value: " two words"}}) {
		t.Errorf("%d containers, files %q", len(got.Containers), app.Files)
	}
	if n := len(s.asked); n != 6 { // two regions' parameters, three versions of a secret, a login
		t.Errorf("%d requests: %v", n, s.asked)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", got, *got, got, app.Secrets); strings.Contains(text, "pw") || strings.Contains(text, "first") {
		t.Errorf("it prints itself: %s", text)
	}
}

// TestBatches: ten parameters a request.
func TestBatches(t *testing.T) {
	s := &shelf{parameters: map[string]string{}}
	var all []string
	for i := range 23 {
		name := fmt.Sprint("/p/", i)
		s.parameters[name] = fmt.Sprint(i)
		all = append(all, name, name)
	}
	got, err := Gather(ctx, s.source(), []types.ContainerDefinition{container(all...)}, true)
	if err != nil || len(s.asked) != 3 || len(got.Containers["app"].Secrets) != 46 || got.Containers["app"].Secrets[45].Value != "22" {
		t.Errorf("%v, %v", s.asked, err)
	}
}

func TestWhatCannotBeHad(t *testing.T) {
	s := &shelf{parameters: map[string]string{"/a": "x"}, secrets: map[string]string{secretARN: `{"a":"b"}`, "text": "t"}}
	const pull = "unable to pull secrets or registry auth: execution resource retrieval failed: "
	login := container()
	login.RepositoryCredentials = &types.RepositoryCredentials{CredentialsParameter: new("text")}
	file := container()
	file.EnvironmentFiles = []types.EnvironmentFile{{Value: new("arn:aws:s3:::b/no.env")}}
	for name, c := range map[string]struct {
		def     types.ContainerDefinition
		fargate bool
		want    string
	}{
		"a parameter": {container("/a", "/x"), true, pull + "unable to retrieve secrets from ssm: service call has been retried 1 time(s): invalid ssm parameters: /x"},
		"on EC2":      {container("/x"), false, "fetching secret data from SSM Parameter Store in us-east-1: invalid parameters: /x"},
		"a secret": {container("arn:aws:secretsmanager:us-east-1:000000000000:secret:no-AbCdEf"), true, pull + "unable to retrieve secret from asm: service call has " +
			"been retried 1 time(s): failed to fetch secret arn:aws:secretsmanager:us-east-1:000000000000:secret:no-AbCdEf from secrets manager: " +
			"ResourceNotFoundException: Secrets Manager can't find the specified secret."},
		"a key": {container(secretARN + ":k::"), true, pull + "unable to retrieve secret from asm: service call has been retried 1 time(s): retrieved secret from " +
			"Secrets Manager did not contain json key k"},
		"an ARN": {container(secretARN + ":k"), true, pull + "unable to retrieve secret from asm: an invalid ARN format for the AWS Secrets Manager secret was specified. " +
			"Specify a valid ARN and try again."},
		"a login": {login, true, pull + "unable to get registry auth from asm: the secret text must be a JSON object such as {\"username\":\"…\",\"password\":\"…\"}"},
		"a file":  {file, true, "failed to download env files: service call has been retried 1 time(s): operation error S3: HeadObject, NotFound: Not Found"},
	} {
		_, err := Gather(ctx, s.source(), []types.ContainerDefinition{c.def}, c.fargate)
		if got, ok := err.(*model.TaskError); !ok || got.Name != "ResourceInitializationError" || got.Message != c.want {
			t.Errorf("%s:\ngot  %v\nwant %s", name, err, c.want)
		}
	}
}

// TestWhatPasses: a server that is stopping is no end of a task.
func TestWhatPasses(t *testing.T) {
	from := Source{Region: "r", Invoke: func(context.Context, string, string, string, []byte) ([]byte, error) {
		return nil, model.Errorf("ServiceUnavailable", "later")
	}}
	for _, name := range []string{"/x", secretARN} {
		_, err := Gather(ctx, from, []types.ContainerDefinition{container(name)}, true)
		if _, final := err.(*model.TaskError); err == nil || final {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseSecretARN(f *testing.F) {
	f.Add(secretARN + ":a:b:c")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseSecretARN(text); err == nil && !strings.HasPrefix(text, r.ID) {
			t.Errorf("%q: %+v", text, r)
		}
	})
}

func FuzzParseFile(f *testing.F) {
	f.Add("A=1\r\n#\nB==\x00")
	f.Fuzz(func(t *testing.T, text string) {
		all, _ := ParseFile(text)
		for _, v := range all {
			if v.Name == "" || strings.ContainsAny(v.Name+v.Value, "\n\x00") {
				t.Errorf("%q=%q", v.Name, v.Value)
			}
		}
	})
}
