package fleet

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/berthdev/berth/test/images"
)

// An image that is pushed to a server is pulled by another machine, and what its tasks write is read from the server.
func TestImagesAndLogsAcrossMachines(t *testing.T) {
	f := newFleet(t, "s1", "n2")
	one, two := f.all[0], f.all[1]
	f.cluster(1)
	one.push("team/app", "1")
	c := web("localhost:4566/team/app:1")
	c.LogConfiguration = &ecstypes.LogConfiguration{LogDriver: ecstypes.LogDriverAwslogs, Options: map[string]string{"awslogs-group": "all",
		"awslogs-region": "us-east-1", "awslogs-stream-prefix": "p", "awslogs-create-group": "true"}}
	def := one.register("web", c)
	for _, on := range []*box{one, two} {
		task := one.reaches(one.runOn(on, def), "RUNNING")
		stream := "p/web/" + taskID(*task.TaskArn)
		eventually(t, 15*time.Second, "the log of the task on "+on.Name, func() error {
			out, err := cloudwatchlogs.NewFromConfig(one.config()).GetLogEvents(context.Background(),
				&cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("all"), LogStreamName: &stream})
			if err != nil {
				return err
			}
			for _, e := range out.Events {
				if strings.Contains(*e.Message, "listening on :80") {
					return nil
				}
			}
			return fmt.Errorf("%d events", len(out.Events))
		})
	}
}

// push puts the test program into the machine's registry.
func (b *box) push(repository, tag string) {
	b.t.Helper()
	client := ecr.NewFromConfig(b.config())
	if _, err := client.CreateRepository(context.Background(), &ecr.CreateRepositoryInput{RepositoryName: &repository}); err != nil {
		b.t.Fatal(err)
	}
	image, err := images.Web(repository)
	if err != nil {
		b.t.Fatal(err)
	}
	password := strings.TrimSpace(b.registryPassword())
	ref, err := name.ParseReference("localhost:4566/"+repository+":"+tag, name.Insecure)
	if err != nil {
		b.t.Fatal(err)
	}
	err = remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: "AWS", Password: password}), remote.WithTransport(local{b}))
	if err != nil {
		b.t.Fatal(err)
	}
}

// local sends requests for localhost to the machine's own.
type local struct{ b *box }

// RoundTrip implements http.RoundTripper.
func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	own := r.Clone(r.Context())
	own.Host, own.URL.Host = r.URL.Host, strings.Replace(r.URL.Host, "localhost", "127.0.0.1", 1)
	res, err := l.b.http.Transport.RoundTrip(own)
	if err == nil {
		res.Request = r // what it redirects to is at the same host
	}
	return res, err
}

// registryPassword is that of `docker login`.
func (b *box) registryPassword() string {
	b.t.Helper()
	out, err := ecr.NewFromConfig(b.config()).GetAuthorizationToken(context.Background(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	both, err := base64.StdEncoding.DecodeString(*out.AuthorizationData[0].AuthorizationToken)
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimPrefix(string(both), "AWS:")
}
