package sns_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/berthdev/berth/internal/api/sns"
	"github.com/berthdev/berth/internal/api/wire/wiretest"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var ctx = context.Background()

type rig struct {
	*sdk.Client
	t     *testing.T
	store *mem.Store
}

func setup(t *testing.T) *rig {
	s := mem.New(store.Schema())
	t.Cleanup(func() { s.Close() })
	ids := 0
	return &rig{sdk.NewFromConfig(wiretest.Serve(t, sns.New(sns.Config{Store: s, Scope: model.Scope{Account: "000000000000", Region: "us-east-1"}, URL: "http://berth/sns/confirm", Now: time.Now,
		NewID: func() string { ids++; return fmt.Sprintf("%032x", ids) }, Log: slog.New(slog.DiscardHandler)}))), t, s}
}

func (r *rig) take() (all []*model.Delivery) {
	r.t.Helper()
	err := r.store.Update(ctx, func(tx store.Tx) error {
		for d := range store.Outbox.Scan(tx, "") {
			all = append(all, d)
			store.Outbox.Delete(tx, d.ID)
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// TestTopics: a subscriber confirms with what it is sent, and then gets messages, whole or raw, that fit its filter.
func TestTopics(t *testing.T) {
	r := setup(t)
	arn := wiretest.Must[*sdk.CreateTopicOutput](t)(r.CreateTopic(ctx, &sdk.CreateTopicInput{Name: new("alarms"), Attributes: map[string]string{"DisplayName": "x"}, Tags: []types.Tag{{Key: new("a"), Value: new("b")}}})).TopicArn
	if *arn != "arn:aws:sns:us-east-1:000000000000:alarms" {
		t.Errorf("ARN %s", *arn)
	}
	if _, err := r.CreateTopic(ctx, &sdk.CreateTopicInput{Name: new("alarms")}); err != nil {
		t.Errorf("again: %v", err)
	}
	subscribe := func(endpoint string, attributes map[string]string) string {
		t.Helper()
		out := wiretest.Must[*sdk.SubscribeOutput](t)(r.Subscribe(ctx, &sdk.SubscribeInput{TopicArn: arn, Protocol: new("http"), Endpoint: &endpoint, Attributes: attributes}))
		if *out.SubscriptionArn != "pending confirmation" {
			t.Errorf("subscribed as %s", *out.SubscriptionArn)
		}
		sent := r.take()
		var m struct{ Type, Token, TopicArn, SubscribeURL string }
		if len(sent) != 1 || sent[0].Target != endpoint || sent[0].Headers["x-amz-sns-message-type"] != "SubscriptionConfirmation" || json.Unmarshal([]byte(sent[0].Body), &m) != nil || m.Type != "SubscriptionConfirmation" {
			t.Fatalf("sent %+v", sent)
		}
		u, err := url.Parse(m.SubscribeURL)
		if err != nil || u.Path != sns.ConfirmPath || u.Query().Get("Token") != m.Token {
			t.Errorf("URL %s", m.SubscribeURL)
		}
		if _, err := sns.Confirm(ctx, r.store, *arn, "wrong", time.Now()); model.ErrorCode(err) != "InvalidParameter" {
			t.Errorf("a wrong token: %v", err)
		}
		return m.Token
	}
	first := subscribe("http://127.0.0.1:1/all", nil)
	second := subscribe("http://127.0.0.1:1/raw", map[string]string{"RawMessageDelivery": "true", "FilterPolicy": `{"kind":["x",{"prefix":"y"}]}`})
	publish := func(kind string) []*model.Delivery {
		t.Helper()
		wiretest.Must[*sdk.PublishOutput](t)(r.Publish(ctx, &sdk.PublishInput{TopicArn: arn, Message: new("he<llo"), Subject: new("s"),
			MessageAttributes: map[string]types.MessageAttributeValue{"kind": {DataType: new("String"), StringValue: &kind}}}))
		return r.take()
	}
	if sent := publish("x"); len(sent) != 0 {
		t.Errorf("sent to who has not confirmed: %+v", sent)
	}
	confirmed := wiretest.Must[*sdk.ConfirmSubscriptionOutput](t)(r.ConfirmSubscription(ctx, &sdk.ConfirmSubscriptionInput{TopicArn: arn, Token: &first}))
	if _, err := sns.Confirm(ctx, r.store, *arn, second, time.Now()); err != nil {
		t.Fatal(err)
	}
	bodies := map[string]string{}
	for _, d := range publish("yes") {
		bodies[d.Target] = d.Body
	}
	var m struct {
		Type, MessageId, TopicArn, Subject, Message, Timestamp string
		MessageAttributes                                      map[string]struct{ Type, Value string }
	}
	if err := json.Unmarshal([]byte(bodies["http://127.0.0.1:1/all"]), &m); err != nil || m.Type != "Notification" || m.Message != "he<llo" || m.Subject != "s" || m.TopicArn != *arn || m.MessageAttributes["kind"].Value != "yes" {
		t.Errorf("%v, %+v", err, m)
	}
	if bodies["http://127.0.0.1:1/raw"] != "he<llo" {
		t.Errorf("raw %q", bodies["http://127.0.0.1:1/raw"])
	}
	if sent := publish("other"); len(sent) != 1 {
		t.Errorf("the filter let %d through", len(sent))
	}
	batch := wiretest.Must[*sdk.PublishBatchOutput](t)(r.PublishBatch(ctx, &sdk.PublishBatchInput{TopicArn: arn, PublishBatchRequestEntries: []types.PublishBatchRequestEntry{
		{Id: new("1"), Message: new(`{"default":"d","http":"h"}`), MessageStructure: new("json")}, {Id: new("2"), Message: new("")}}}))
	if sent := r.take(); len(batch.Successful) != 1 || len(batch.Failed) != 1 || *batch.Failed[0].Code != "InvalidParameter" || len(sent) != 1 || json.Unmarshal([]byte(sent[0].Body), &m) != nil || m.Message != "h" {
		t.Errorf("%+v", batch)
	}
	at := wiretest.Must[*sdk.GetTopicAttributesOutput](t)(r.GetTopicAttributes(ctx, &sdk.GetTopicAttributesInput{TopicArn: arn})).Attributes
	if at["SubscriptionsConfirmed"] != "2" || at["DisplayName"] != "x" || !json.Valid([]byte(at["Policy"])) {
		t.Errorf("%v", at)
	}
	sub := wiretest.Must[*sdk.GetSubscriptionAttributesOutput](t)(r.GetSubscriptionAttributes(ctx, &sdk.GetSubscriptionAttributesInput{SubscriptionArn: confirmed.SubscriptionArn})).Attributes
	if sub["PendingConfirmation"] != "false" || sub["Endpoint"] != "http://127.0.0.1:1/all" {
		t.Errorf("%v", sub)
	}
	wiretest.Must[*sdk.SetSubscriptionAttributesOutput](t)(r.SetSubscriptionAttributes(ctx, &sdk.SetSubscriptionAttributesInput{SubscriptionArn: confirmed.SubscriptionArn, AttributeName: new("RawMessageDelivery"), AttributeValue: new("true")}))
	all := wiretest.Must[*sdk.ListSubscriptionsByTopicOutput](t)(r.ListSubscriptionsByTopic(ctx, &sdk.ListSubscriptionsByTopicInput{TopicArn: arn}))
	if len(all.Subscriptions) != 2 {
		t.Errorf("%+v", all)
	}
	tags := wiretest.Must[*sdk.ListTagsForResourceOutput](t)(r.ListTagsForResource(ctx, &sdk.ListTagsForResourceInput{ResourceArn: arn}))
	if len(tags.Tags) != 1 || *tags.Tags[0].Value != "b" {
		t.Errorf("%+v", tags)
	}
	wiretest.Must[*sdk.UnsubscribeOutput](t)(r.Unsubscribe(ctx, &sdk.UnsubscribeInput{SubscriptionArn: confirmed.SubscriptionArn}))
	wiretest.Must[*sdk.DeleteTopicOutput](t)(r.DeleteTopic(ctx, &sdk.DeleteTopicInput{TopicArn: arn}))
	if left := wiretest.Must[*sdk.ListSubscriptionsOutput](t)(r.ListSubscriptions(ctx, &sdk.ListSubscriptionsInput{})); len(left.Subscriptions) != 0 {
		t.Errorf("%+v", left)
	}
}

func TestRefused(t *testing.T) {
	r := setup(t)
	wiretest.Refused(t, wiretest.Error(r.CreateTopic(ctx, &sdk.CreateTopicInput{Name: new("a.fifo")})), "InvalidParameter", "FIFO")
	wiretest.Refused(t, wiretest.Error(r.CreateTopic(ctx, &sdk.CreateTopicInput{Name: new("a b")})), "InvalidParameter", "Topic Name")
	wiretest.Refused(t, wiretest.Error(r.Publish(ctx, &sdk.PublishInput{TopicArn: new("arn:aws:sns:us-east-1:000000000000:none"), Message: new("x")})), "NotFound", "Topic does not exist")
	arn := wiretest.Must[*sdk.CreateTopicOutput](t)(r.CreateTopic(ctx, &sdk.CreateTopicInput{Name: new("t")})).TopicArn
	wiretest.Refused(t, wiretest.Error(r.Publish(ctx, &sdk.PublishInput{TopicArn: arn, Message: new("")})), "InvalidParameter", "Empty message")
	wiretest.Refused(t, wiretest.Error(r.Publish(ctx, &sdk.PublishInput{TopicArn: arn, Message: new("{}"), MessageStructure: new("json")})), "InvalidParameter", "No default entry")
	wiretest.Refused(t, wiretest.Error(r.Subscribe(ctx, &sdk.SubscribeInput{TopicArn: arn, Protocol: new("email"), Endpoint: new("a@b")})), "InvalidParameter", "use http or https")
	wiretest.Refused(t, wiretest.Error(r.Subscribe(ctx, &sdk.SubscribeInput{TopicArn: arn, Protocol: new("https"), Endpoint: new("http://x")})), "InvalidParameter", "Endpoint must match")
	wiretest.Refused(t, wiretest.Error(r.Subscribe(ctx, &sdk.SubscribeInput{TopicArn: arn, Protocol: new("http"), Endpoint: new("http://x"), Attributes: map[string]string{"FilterPolicy": `{"a":[{"cidr":"x"}]}`}})), "InvalidParameter", "match type")
}
