// Package sns is the SNS API: topics with subscribers by HTTP, which serve/topics brings messages to. Other protocols are refused, and messages
// are not signed.
package sns

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/topics"
	"github.com/berthdev/berth/internal/store"
)

// Config is what the API needs.
type Config struct {
	Store store.Store
	Scope model.Scope
	// URL is where the API answers: subscribers confirm there.
	URL   string
	Now   func() time.Time
	NewID func() string // 32 hexadecimal digits
	Log   *slog.Logger
}

type api struct{ Config }

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{c}
	s := &wire.Service{Name: "sns", Protocol: wire.Query, Version: "2010-03-31", Namespace: "http://sns.amazonaws.com/doc/2010-03-31/", Asks: a.asks}
	wire.Handle(s, a.createTopic)
	wire.Handle(s, a.deleteTopic)
	wire.Handle(s, a.listTopics)
	wire.Handle(s, a.getTopicAttributes)
	wire.Handle(s, a.setTopicAttributes)
	wire.Handle(s, a.subscribe)
	wire.Handle(s, a.confirmSubscription)
	wire.Handle(s, a.unsubscribe)
	wire.Handle(s, a.listSubscriptions)
	wire.Handle(s, a.listSubscriptionsByTopic)
	wire.Handle(s, a.getSubscriptionAttributes)
	wire.Handle(s, a.setSubscriptionAttributes)
	wire.Handle(s, a.publish)
	wire.Handle(s, a.publishBatch)
	wire.Handle(s, a.tagResource)
	wire.Handle(s, a.untagResource)
	wire.Handle(s, a.listTagsForResource)
	return s
}

// The bounds.
const (
	maxTopics        = 10_000
	maxSubscriptions = 1000 // of a topic
	maxMessage       = 256 << 10
	maxBatch         = 10
	pageSize         = 100
)

var topicForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func invalid(format string, args ...any) error {
	return model.Errorf("InvalidParameter", "Invalid parameter: "+format, args...)
}
func noTopic() error        { return model.Errorf("NotFound", "Topic does not exist") }
func noSubscription() error { return model.Errorf("NotFound", "Subscription does not exist") }

func (a *api) asks(_ context.Context, op string, in any) []wire.Ask {
	action := "sns:" + op
	on := func(arn *string) []wire.Ask {
		topic := deref(arn)
		if parts := strings.Split(topic, ":"); len(parts) == 7 { // of a subscription
			topic = strings.Join(parts[:6], ":")
		}
		return []wire.Ask{{Action: action, Resources: []string{topic}}}
	}
	switch in := in.(type) {
	case *sdk.CreateTopicInput:
		return on(new(a.Scope.ARN("sns", deref(in.Name))))
	case *sdk.DeleteTopicInput:
		return on(in.TopicArn)
	case *sdk.GetTopicAttributesInput:
		return on(in.TopicArn)
	case *sdk.SetTopicAttributesInput:
		return on(in.TopicArn)
	case *sdk.SubscribeInput:
		ask := on(in.TopicArn)
		ask[0].Context = map[string][]string{"sns:Protocol": {deref(in.Protocol)}, "sns:Endpoint": {deref(in.Endpoint)}}
		return ask
	case *sdk.ConfirmSubscriptionInput:
		return on(in.TopicArn)
	case *sdk.UnsubscribeInput:
		return on(in.SubscriptionArn)
	case *sdk.ListSubscriptionsByTopicInput:
		return on(in.TopicArn)
	case *sdk.GetSubscriptionAttributesInput:
		return on(in.SubscriptionArn)
	case *sdk.SetSubscriptionAttributesInput:
		return on(in.SubscriptionArn)
	case *sdk.PublishInput:
		if in.TopicArn == nil {
			return on(in.TargetArn)
		}
		return on(in.TopicArn)
	case *sdk.PublishBatchInput:
		ask := on(in.TopicArn)
		ask[0].Action = "sns:Publish"
		return ask
	case *sdk.TagResourceInput:
		return on(in.ResourceArn)
	case *sdk.UntagResourceInput:
		return on(in.ResourceArn)
	case *sdk.ListTagsForResourceInput:
		return on(in.ResourceArn)
	}
	return nil
}

// topicAttributes are those that may be set, stored and returned; what some of them ask for (encryption, feedback, tracing) is not done.
var (
	topicAttributes = []string{"DisplayName", "Policy", "DeliveryPolicy", "KmsMasterKeyId", "TracingConfig", "SignatureVersion"}
	feedback        = regexp.MustCompile(`^(HTTP|Lambda|SQS|Firehose|Application)(Success|Failure)Feedback(RoleArn|SampleRate)$`)
)

func kept(attribute string) bool {
	return slices.Contains(topicAttributes, attribute) || feedback.MatchString(attribute)
}

func checkTopicAttributes(all map[string]string) error {
	for name, v := range all {
		switch {
		case name == "FifoTopic" && v == "true" || name == "ContentBasedDeduplication" && v == "true":
			return invalid("Berth has no FIFO topics")
		case name == "FifoTopic" || name == "ContentBasedDeduplication":
		case !kept(name):
			return invalid("AttributeName %.60s", name)
		case (name == "Policy" || name == "DeliveryPolicy") && v != "" && !json.Valid([]byte(v)):
			return invalid("%s: it is no JSON", name)
		case name == "DisplayName" && len(v) > 100 || len(v) > 30<<10:
			return invalid("%s is too long", name)
		}
	}
	return nil
}

func (a *api) createTopic(ctx context.Context, in *sdk.CreateTopicInput) (*sdk.CreateTopicOutput, error) {
	name := deref(in.Name)
	if strings.HasSuffix(name, ".fifo") {
		return nil, invalid("Berth has no FIFO topics")
	}
	if !topicForm.MatchString(name) {
		return nil, invalid("Topic Name")
	}
	if err := checkTopicAttributes(in.Attributes); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	arn := a.Scope.ARN("sns", name)
	return &sdk.CreateTopicOutput{TopicArn: &arn}, a.Store.Update(ctx, func(tx store.Tx) error {
		if old, ok := store.Topics.Get(tx, arn); ok {
			for k, v := range in.Attributes {
				if k != "FifoTopic" && old.Attributes[k] != v {
					return invalid("Attributes Reason: Topic already exists with different attributes")
				}
			}
			if len(in.Tags) > 0 && !slices.EqualFunc(in.Tags, old.Tags, func(x, y types.Tag) bool { return deref(x.Key) == deref(y.Key) && deref(x.Value) == deref(y.Value) }) {
				return invalid("Tags Reason: Topic already exists with different tags")
			}
			return nil
		}
		n := 0
		for range store.Topics.Scan(tx, "") {
			n++
		}
		if n >= maxTopics {
			return model.Errorf("TopicLimitExceeded", "Berth keeps at most %d topics.", maxTopics)
		}
		attributes := map[string]string{}
		for k, v := range in.Attributes {
			if kept(k) {
				attributes[k] = v
			}
		}
		store.Topics.Put(tx, &model.Topic{Name: name, ARN: arn, Attributes: attributes, Tags: in.Tags, CreatedAt: a.Now()})
		return nil
	})
}

func (a *api) deleteTopic(ctx context.Context, in *sdk.DeleteTopicInput) (*sdk.DeleteTopicOutput, error) {
	return &sdk.DeleteTopicOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		for s := range store.Subscriptions.By(tx, store.ByTopic, deref(in.TopicArn)) {
			store.Subscriptions.Delete(tx, s.Key())
		}
		store.Topics.Delete(tx, deref(in.TopicArn)) // one that is not there is no error
		return nil
	})
}

// page cuts a list of keys behind the one that token holds.
func page(all []string, token *string) ([]string, *string, error) {
	if token != nil && *token != "" {
		b, err := base64.RawURLEncoding.DecodeString(*token)
		if err != nil {
			return nil, nil, invalid("NextToken")
		}
		i, found := slices.BinarySearch(all, string(b))
		if found {
			i++
		}
		all = all[i:]
	}
	if len(all) <= pageSize {
		return all, nil, nil
	}
	return all[:pageSize], new(base64.RawURLEncoding.EncodeToString([]byte(all[pageSize-1]))), nil
}

func (a *api) listTopics(_ context.Context, in *sdk.ListTopicsInput) (*sdk.ListTopicsOutput, error) {
	var arns []string
	a.Store.View(func(r store.Reader) {
		for t := range store.Topics.Scan(r, "") {
			arns = append(arns, t.ARN)
		}
	})
	arns, next, err := page(arns, in.NextToken)
	out := &sdk.ListTopicsOutput{Topics: []types.Topic{}, NextToken: next}
	for _, arn := range arns {
		out.Topics = append(out.Topics, types.Topic{TopicArn: new(arn)})
	}
	return out, err
}

// defaultPolicy is what a topic without a policy of its own shows: only its account may use it.
func (a *api) defaultPolicy(t *model.Topic) string {
	b, err := json.Marshal(map[string]any{"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": []any{map[string]any{"Sid": "__default_statement_ID", "Effect": "Allow",
		"Principal": map[string]any{"AWS": "*"}, "Action": []string{"SNS:GetTopicAttributes", "SNS:SetTopicAttributes", "SNS:AddPermission", "SNS:RemovePermission", "SNS:DeleteTopic",
			"SNS:Subscribe", "SNS:ListSubscriptionsByTopic", "SNS:Publish"}, "Resource": t.ARN, "Condition": map[string]any{"StringEquals": map[string]any{"AWS:SourceOwner": a.Scope.Account}}}}})
	if err != nil {
		return ""
	}
	return string(b)
}

func (a *api) getTopicAttributes(_ context.Context, in *sdk.GetTopicAttributesInput) (*sdk.GetTopicAttributesOutput, error) {
	out := map[string]string{}
	err := noTopic()
	a.Store.View(func(r store.Reader) {
		t, ok := store.Topics.Get(r, deref(in.TopicArn))
		if !ok {
			return
		}
		err = nil
		confirmed, pending := 0, 0
		for s := range store.Subscriptions.By(r, store.ByTopic, t.ARN) {
			if s.Confirmed {
				confirmed++
			} else {
				pending++
			}
		}
		out["TopicArn"], out["Owner"], out["DisplayName"], out["Policy"] = t.ARN, a.Scope.Account, "", a.defaultPolicy(t)
		out["SubscriptionsConfirmed"], out["SubscriptionsPending"], out["SubscriptionsDeleted"] = decimal(confirmed), decimal(pending), "0"
		out["EffectiveDeliveryPolicy"] = `{"http":{"defaultHealthyRetryPolicy":{"minDelayTarget":1,"maxDelayTarget":20,"numRetries":49,"numMaxDelayRetries":0,"numNoDelayRetries":0,"numMinDelayRetries":0,"backoffFunction":"exponential"},"disableSubscriptionOverrides":false}}`
		for k, v := range t.Attributes {
			out[k] = v
		}
	})
	if err != nil {
		return nil, err
	}
	return &sdk.GetTopicAttributesOutput{Attributes: out}, nil
}

func (a *api) setTopicAttributes(ctx context.Context, in *sdk.SetTopicAttributesInput) (*sdk.SetTopicAttributesOutput, error) {
	name := deref(in.AttributeName)
	if err := checkTopicAttributes(map[string]string{name: deref(in.AttributeValue)}); err != nil {
		return nil, err
	}
	return &sdk.SetTopicAttributesOutput{}, a.changeTopic(ctx, in.TopicArn, func(t *model.Topic) error {
		next := map[string]string{}
		for k, v := range t.Attributes {
			next[k] = v
		}
		next[name] = deref(in.AttributeValue)
		if next[name] == "" && name != "DisplayName" || !kept(name) {
			delete(next, name)
		}
		t.Attributes = next
		return nil
	})
}

func (a *api) changeTopic(ctx context.Context, arn *string, f func(*model.Topic) error) error {
	return a.Store.Update(ctx, func(tx store.Tx) error {
		t, ok := store.Topics.Get(tx, deref(arn))
		if !ok {
			return noTopic()
		}
		next := *t
		if err := f(&next); err != nil {
			return err
		}
		store.Topics.Put(tx, &next)
		return nil
	})
}

func checkTags(tags []types.Tag) error {
	if len(tags) > 50 {
		return model.Errorf("TagLimitExceeded", "Could not complete request: tag quota of per resource exceeded")
	}
	for _, t := range tags {
		if k := deref(t.Key); k == "" || utf8.RuneCountInString(k) > 128 || strings.HasPrefix(k, "aws:") || utf8.RuneCountInString(deref(t.Value)) > 256 {
			return invalid("Tag key %.40q", k)
		}
	}
	return nil
}

func (a *api) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	return &sdk.TagResourceOutput{}, resource(a.changeTopic(ctx, in.ResourceArn, func(t *model.Topic) error {
		next := slices.Clone(t.Tags)
		for _, tag := range in.Tags {
			next = slices.DeleteFunc(next, func(o types.Tag) bool { return deref(o.Key) == deref(tag.Key) })
			next = append(next, tag)
		}
		t.Tags = next
		return checkTags(next)
	}))
}

func (a *api) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	return &sdk.UntagResourceOutput{}, resource(a.changeTopic(ctx, in.ResourceArn, func(t *model.Topic) error {
		t.Tags = slices.DeleteFunc(slices.Clone(t.Tags), func(o types.Tag) bool { return slices.Contains(in.TagKeys, deref(o.Key)) })
		return nil
	}))
}

// resource names a missing topic as operations on tags do.
func resource(err error) error {
	if model.ErrorCode(err) == "NotFound" {
		return model.Errorf("ResourceNotFound", "Resource does not exist")
	}
	return err
}

func (a *api) listTagsForResource(_ context.Context, in *sdk.ListTagsForResourceInput) (out *sdk.ListTagsForResourceOutput, err error) {
	a.Store.View(func(r store.Reader) {
		t, ok := store.Topics.Get(r, deref(in.ResourceArn))
		if !ok {
			err = model.Errorf("ResourceNotFound", "Resource does not exist")
			return
		}
		out = &sdk.ListTagsForResourceOutput{Tags: append([]types.Tag{}, t.Tags...)}
	})
	return out, err
}

// endpointOf checks where messages are to go.
func endpointOf(protocol, endpoint string) error {
	if protocol != "http" && protocol != "https" {
		if slices.Contains([]string{"email", "email-json", "sms", "sqs", "application", "lambda", "firehose"}, protocol) {
			return invalid("Berth has no subscriptions of the protocol %s: use http or https", protocol)
		}
		return invalid("Does not support this protocol string: %.40s", protocol)
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != protocol || u.Host == "" || len(endpoint) > 2048 {
		return invalid("Endpoint must match the specified protocol")
	}
	return nil
}

// The message of a request, checked.
func (a *api) message(id string, text, subject, structure *string, attributes map[string]types.MessageAttributeValue) (m topics.Message, err error) {
	m = topics.Message{ID: id, Body: deref(text), Subject: deref(subject)}
	switch {
	case m.Body == "":
		return m, invalid("Empty message")
	case len(m.Body) > maxMessage:
		return m, invalid("Message too long")
	case subject != nil && (m.Subject == "" || utf8.RuneCountInString(m.Subject) > 100 || strings.ContainsAny(m.Subject, "\n\r")):
		return m, invalid("Subject")
	case structure != nil && *structure != "json":
		return m, invalid("MessageStructure - Invalid MessageStructure")
	case structure != nil:
		if json.Unmarshal([]byte(m.Body), &m.Structure) != nil {
			return m, invalid("Message Structure - JSON message body failed to parse")
		}
		if _, ok := m.Structure["default"]; !ok {
			return m, invalid("Message Structure - No default entry in JSON message body")
		}
	}
	for name, v := range attributes {
		kind := deref(v.DataType)
		base, _, _ := strings.Cut(kind, ".")
		if !slices.Contains([]string{"String", "Number", "Binary"}, base) || base == "Binary" && len(v.BinaryValue) == 0 || base != "Binary" && deref(v.StringValue) == "" {
			return m, model.Errorf("ParameterValueInvalid", "The message attribute '%.60s' must contain a non-empty value and a type of String, Number or Binary.", name)
		}
		if m.Attributes == nil {
			m.Attributes = map[string]topics.Attribute{}
		}
		value := deref(v.StringValue)
		if base == "Binary" {
			value = base64.StdEncoding.EncodeToString(v.BinaryValue)
		}
		m.Attributes[name] = topics.Attribute{Type: kind, Value: value}
	}
	return m, nil
}

func (a *api) uuid() string {
	h := a.NewID()
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func (a *api) publish(ctx context.Context, in *sdk.PublishInput) (*sdk.PublishOutput, error) {
	arn := in.TopicArn
	if arn == nil {
		arn = in.TargetArn
	}
	if in.PhoneNumber != nil {
		return nil, invalid("Berth sends no text messages: PhoneNumber")
	}
	if arn == nil {
		return nil, invalid("TopicArn or TargetArn Reason: no value for required parameter")
	}
	m, err := a.message(a.uuid(), in.Message, in.Subject, in.MessageStructure, in.MessageAttributes)
	if err != nil {
		return nil, err
	}
	return &sdk.PublishOutput{MessageId: &m.ID}, a.Store.Update(ctx, func(tx store.Tx) error { return a.send(tx, *arn, m) })
}

// send publishes; that there is no room is a refusal that clients try again.
func (a *api) send(tx store.Tx, arn string, m topics.Message) error {
	err := topics.Publish(tx, arn, m, a.Now())
	if err != nil && model.ErrorCode(err) == "" {
		return model.Errorf("Throttled", "%v", err)
	}
	return err
}

func (a *api) publishBatch(ctx context.Context, in *sdk.PublishBatchInput) (*sdk.PublishBatchOutput, error) {
	n := len(in.PublishBatchRequestEntries)
	if n == 0 {
		return nil, model.Errorf("EmptyBatchRequest", "The batch request doesn't contain any entries.")
	}
	if n > maxBatch {
		return nil, model.Errorf("TooManyEntriesInBatchRequest", "The batch request contains more entries than permissible.")
	}
	seen := map[string]bool{}
	size := 0
	for _, e := range in.PublishBatchRequestEntries {
		if seen[deref(e.Id)] {
			return nil, model.Errorf("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.")
		}
		seen[deref(e.Id)] = true
		size += len(deref(e.Message))
	}
	if size > maxMessage {
		return nil, model.Errorf("BatchRequestTooLong", "The length of all the batch messages put together is more than the limit.")
	}
	out := &sdk.PublishBatchOutput{}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		out.Failed, out.Successful = []types.BatchResultErrorEntry{}, []types.PublishBatchResultEntry{}
		if _, ok := store.Topics.Get(tx, deref(in.TopicArn)); !ok {
			return noTopic()
		}
		for _, e := range in.PublishBatchRequestEntries {
			m, err := a.message(a.uuid(), e.Message, e.Subject, e.MessageStructure, e.MessageAttributes)
			if err == nil {
				err = a.send(tx, *in.TopicArn, m)
			}
			if err != nil {
				out.Failed = append(out.Failed, types.BatchResultErrorEntry{Id: e.Id, Code: new(model.ErrorCode(err)), Message: new(err.Error()), SenderFault: true})
				continue
			}
			out.Successful = append(out.Successful, types.PublishBatchResultEntry{Id: e.Id, MessageId: new(m.ID)})
		}
		return nil
	})
	return out, err
}
