package wire_test

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslogs "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
)

// tail serves StartLiveTail by h.
func tail(t *testing.T, h func(ctx context.Context, in *awslogs.StartLiveTailInput, send func(any) error) error) *awslogs.Client {
	s := &wire.Service{Name: "logs", Protocol: wire.JSON11, Target: "Logs_20140328", Types: awslogs.TypeRegistry}
	wire.HandleStream(s, &awslogs.StartLiveTailOutput{}, h)
	conf := wiretest.Serve(t, s)
	conf.HTTPClient = unprefixed{}
	return awslogs.NewFromConfig(conf)
}

// unprefixed calls the endpoint itself: the client calls "stream-" and its name, which nobody resolves here.
type unprefixed struct{}

func (unprefixed) Do(r *http.Request) (*http.Response, error) {
	r.Host = r.URL.Host // as it was signed
	r.URL.Host = strings.TrimPrefix(r.URL.Host, "stream-")
	return wiretest.Client{}.Do(r)
}

var groups = &awslogs.StartLiveTailInput{LogGroupIdentifiers: []string{"arn:aws:logs:us-east-1:000000000000:log-group:g"}}

// TestEventStreams: the SDK's client reads events one by one while the handler goes on, and the exception that ends them; when the
// client leaves, the handler's context ends.
func TestEventStreams(t *testing.T) {
	first := &logtypes.StartLiveTailResponseStreamMemberSessionStart{Value: logtypes.LiveTailSessionStart{SessionId: aws.String("s1"),
		LogGroupIdentifiers: groups.LogGroupIdentifiers}}
	second := &logtypes.StartLiveTailResponseStreamMemberSessionUpdate{Value: logtypes.LiveTailSessionUpdate{
		SessionMetadata: &logtypes.LiveTailSessionMetadata{Sampled: true}, SessionResults: []logtypes.LiveTailSessionLogEvent{
			{Message: aws.String("é\n\"x\""), Timestamp: aws.Int64(1_700_000_000_123), LogStreamName: aws.String("a")}}}}
	read := make(chan bool)
	c := tail(t, func(_ context.Context, in *awslogs.StartLiveTailInput, send func(any) error) error {
		if !reflect.DeepEqual(in.LogGroupIdentifiers, groups.LogGroupIdentifiers) {
			return errors.New("another input")
		}
		if err := send(first); err != nil {
			return err
		}
		<-read // the first event must arrive before there is a second
		if err := send(second); err != nil {
			return err
		}
		return &logtypes.SessionTimeoutException{Message: aws.String("three hours")}
	})
	out, err := c.StartLiveTail(ctx, groups)
	if err != nil {
		t.Fatal(err)
	}
	events := out.GetStream().Events()
	if got := <-events; !reflect.DeepEqual(got, first) {
		t.Errorf("first %+v", got)
	}
	close(read)
	if got := <-events; !reflect.DeepEqual(got, second) {
		t.Errorf("second %+v", got)
	}
	if got, ok := <-events; ok {
		t.Errorf("a third event: %+v", got)
	}
	if e, ok := errors.AsType[*logtypes.SessionTimeoutException](out.GetStream().Err()); !ok || *e.Message != "three hours" {
		t.Errorf("the end: %v", out.GetStream().Err())
	}
}

func TestEventStreamsThatAreRefused(t *testing.T) {
	c := tail(t, func(context.Context, *awslogs.StartLiveTailInput, func(any) error) error {
		return model.Errorf("ResourceNotFoundException", "no such group")
	})
	_, err := c.StartLiveTail(ctx, groups)
	wiretest.Refused(t, err, "ResourceNotFoundException", "no such group")
}

func TestEventStreamsEndWithTheirClient(t *testing.T) {
	ended := make(chan error, 1)
	c := tail(t, func(ctx context.Context, _ *awslogs.StartLiveTailInput, send func(any) error) error {
		if err := send(&logtypes.StartLiveTailResponseStreamMemberSessionStart{}); err != nil {
			return err
		}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	})
	ctx, leave := context.WithCancel(context.Background())
	out, err := c.StartLiveTail(ctx, groups)
	if err != nil {
		t.Fatal(err)
	}
	<-out.GetStream().Events()
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
