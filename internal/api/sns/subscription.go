package sns

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/topics"
	"github.com/berthdev/berth/internal/store"
)

// pendingARN is what clients see of a subscription that is not confirmed.
const pendingARN = "PendingConfirmation"

// tokenLife is how long a subscription can be confirmed.
const tokenLife = 72 * time.Hour

func decimal(n int) string { return strconv.Itoa(n) }

// checkSubscription checks the attributes of a subscription.
func checkSubscription(all map[string]string) error {
	for name, v := range all {
		switch name {
		case "RawMessageDelivery":
			if v != "true" && v != "false" {
				return invalid("Attributes Reason: RawMessageDelivery: Invalid value [%.20s]. Must be true or false.", v)
			}
		case "FilterPolicy":
			if err := checkPolicy(v); err != nil {
				return err
			}
		case "FilterPolicyScope":
			if v != "MessageAttributes" {
				return invalid("Attributes Reason: FilterPolicyScope: Berth filters by MessageAttributes only")
			}
		case "DeliveryPolicy":
			if v != "" && !json.Valid([]byte(v)) {
				return invalid("Attributes Reason: DeliveryPolicy: it is no JSON")
			}
		case "RedrivePolicy":
			if v != "" {
				return invalid("Attributes Reason: RedrivePolicy: Berth has no queues for what is not delivered")
			}
		default:
			return invalid("Attributes Reason: %.60s", name)
		}
	}
	return nil
}

// checkPolicy checks a filter policy: texts, and the comparisons that serve/topics knows.
func checkPolicy(v string) error {
	if v == "" || v == "{}" {
		return nil
	}
	var policy map[string][]any
	if len(v) > 256<<10 || json.Unmarshal([]byte(v), &policy) != nil {
		return invalid("FilterPolicy: it is an object whose values are lists")
	}
	for name, list := range policy {
		for _, item := range list {
			o, object := item.(map[string]any)
			if _, text := item.(string); !text && !object {
				return invalid("FilterPolicy: %.40s: Berth compares texts, and knows prefix, suffix, anything-but and exists", name)
			}
			for op := range o {
				if !slices.Contains([]string{"prefix", "suffix", "anything-but", "exists"}, op) {
					return invalid("FilterPolicy: Unrecognized match type %.40s", op)
				}
			}
		}
	}
	return nil
}

func (a *api) subscribe(ctx context.Context, in *sdk.SubscribeInput) (*sdk.SubscribeOutput, error) {
	protocol, endpoint := deref(in.Protocol), deref(in.Endpoint)
	if err := endpointOf(protocol, endpoint); err != nil {
		return nil, err
	}
	if err := checkSubscription(in.Attributes); err != nil {
		return nil, err
	}
	out := &sdk.SubscribeOutput{}
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		if _, ok := store.Topics.Get(tx, deref(in.TopicArn)); !ok {
			return noTopic()
		}
		n := 0
		var s *model.Subscription
		for old := range store.Subscriptions.By(tx, store.ByTopic, *in.TopicArn) {
			if n++; old.Endpoint == endpoint && old.Protocol == protocol {
				s = old
			}
		}
		switch {
		case s != nil && s.Confirmed:
			if len(in.Attributes) > 0 && !maps.Equal(in.Attributes, s.Attributes) {
				return invalid("Attributes Reason: Subscription already exists with different attributes")
			}
			out.SubscriptionArn = new(s.ARN)
			return nil
		case s == nil && n >= maxSubscriptions:
			return model.Errorf("SubscriptionLimitExceeded", "A topic of Berth's has at most %d subscriptions.", maxSubscriptions)
		case s == nil:
			id := a.uuid()
			s = &model.Subscription{ID: id, ARN: *in.TopicArn + ":" + id, TopicARN: *in.TopicArn, Protocol: protocol, Endpoint: endpoint, Owner: a.Scope.Account}
		}
		next := *s
		next.Attributes, next.Token, next.CreatedAt = in.Attributes, a.NewID()+a.NewID(), a.Now()
		store.Subscriptions.Put(tx, &next)
		out.SubscriptionArn = new("pending confirmation")
		if in.ReturnSubscriptionArn {
			out.SubscriptionArn = new(next.ARN)
		}
		q := url.Values{"TopicArn": {next.TopicARN}, "Token": {next.Token}}
		return topics.Confirm(tx, &next, a.uuid(), a.URL+"?"+q.Encode(), a.Now())
	})
	return out, err
}

func (a *api) confirmSubscription(ctx context.Context, in *sdk.ConfirmSubscriptionInput) (*sdk.ConfirmSubscriptionOutput, error) {
	out := &sdk.ConfirmSubscriptionOutput{}
	return out, a.Store.Update(ctx, func(tx store.Tx) (err error) {
		out.SubscriptionArn, err = confirm(tx, deref(in.TopicArn), deref(in.Token), a.Now())
		return err
	})
}

// ConfirmPath is where a subscriber confirms by visiting the URL that it was sent, which needs no signature: the token is the proof.
const ConfirmPath = "/sns/confirm"

// Confirm confirms the subscription with a token.
func Confirm(ctx context.Context, s store.Store, topic, token string, now time.Time) (arn string, err error) {
	err = s.Update(ctx, func(tx store.Tx) error {
		found, err := confirm(tx, topic, token, now)
		arn = deref(found)
		return err
	})
	return arn, err
}

// confirm confirms the subscription with a token.
func confirm(tx store.Tx, topic, token string, now time.Time) (*string, error) {
	if _, ok := store.Topics.Get(tx, topic); !ok {
		return nil, noTopic()
	}
	for s := range store.Subscriptions.By(tx, store.ByTopic, topic) {
		if token == "" || s.Token != token {
			continue
		}
		if !s.Confirmed && now.Sub(s.CreatedAt) > tokenLife {
			return nil, invalid("Token is expired")
		}
		next := *s
		next.Confirmed = true
		store.Subscriptions.Put(tx, &next)
		return new(s.ARN), nil
	}
	return nil, invalid("Token")
}

func (a *api) unsubscribe(ctx context.Context, in *sdk.UnsubscribeInput) (*sdk.UnsubscribeOutput, error) {
	return &sdk.UnsubscribeOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		store.Subscriptions.Delete(tx, deref(in.SubscriptionArn)) // one that is not there is no error
		return nil
	})
}

func shown(s *model.Subscription) types.Subscription {
	v := types.Subscription{SubscriptionArn: new(s.ARN), TopicArn: new(s.TopicARN), Protocol: new(s.Protocol), Endpoint: new(s.Endpoint), Owner: new(s.Owner)}
	if !s.Confirmed {
		v.SubscriptionArn = new(pendingARN)
	}
	return v
}

func (a *api) list(token *string, topic *string) ([]types.Subscription, *string, error) {
	rows := map[string]*model.Subscription{}
	var arns []string
	var err error
	a.Store.View(func(r store.Reader) {
		all := store.Subscriptions.Scan(r, "")
		if topic != nil {
			if _, ok := store.Topics.Get(r, *topic); !ok {
				err = noTopic()
			}
			all = store.Subscriptions.By(r, store.ByTopic, *topic)
		}
		for s := range all {
			arns = append(arns, s.ARN)
			rows[s.ARN] = s
		}
	})
	if err != nil {
		return nil, nil, err
	}
	arns, next, err := page(arns, token)
	out := []types.Subscription{}
	for _, arn := range arns {
		out = append(out, shown(rows[arn]))
	}
	return out, next, err
}

func (a *api) listSubscriptions(_ context.Context, in *sdk.ListSubscriptionsInput) (*sdk.ListSubscriptionsOutput, error) {
	all, next, err := a.list(in.NextToken, nil)
	return &sdk.ListSubscriptionsOutput{Subscriptions: all, NextToken: next}, err
}

func (a *api) listSubscriptionsByTopic(_ context.Context, in *sdk.ListSubscriptionsByTopicInput) (*sdk.ListSubscriptionsByTopicOutput, error) {
	all, next, err := a.list(in.NextToken, new(deref(in.TopicArn)))
	return &sdk.ListSubscriptionsByTopicOutput{Subscriptions: all, NextToken: next}, err
}

func (a *api) getSubscriptionAttributes(_ context.Context, in *sdk.GetSubscriptionAttributesInput) (out *sdk.GetSubscriptionAttributesOutput, err error) {
	a.Store.View(func(r store.Reader) {
		s, ok := store.Subscriptions.Get(r, deref(in.SubscriptionArn))
		if !ok {
			err = noSubscription()
			return
		}
		all := map[string]string{"SubscriptionArn": s.ARN, "TopicArn": s.TopicARN, "Protocol": s.Protocol, "Endpoint": s.Endpoint, "Owner": s.Owner, "RawMessageDelivery": "false",
			"ConfirmationWasAuthenticated": "false", "PendingConfirmation": strconv.FormatBool(!s.Confirmed), "SubscriptionPrincipal": "arn:aws:iam::" + s.Owner + ":root"}
		maps.Copy(all, s.Attributes)
		out = &sdk.GetSubscriptionAttributesOutput{Attributes: all}
	})
	return out, err
}

func (a *api) setSubscriptionAttributes(ctx context.Context, in *sdk.SetSubscriptionAttributesInput) (*sdk.SetSubscriptionAttributesOutput, error) {
	name, v := deref(in.AttributeName), deref(in.AttributeValue)
	if err := checkSubscription(map[string]string{name: v}); err != nil {
		return nil, err
	}
	return &sdk.SetSubscriptionAttributesOutput{}, a.Store.Update(ctx, func(tx store.Tx) error {
		s, ok := store.Subscriptions.Get(tx, deref(in.SubscriptionArn))
		if !ok {
			return noSubscription()
		}
		next := *s
		next.Attributes = maps.Clone(s.Attributes)
		if next.Attributes == nil {
			next.Attributes = map[string]string{}
		}
		next.Attributes[name] = v
		if v == "" || name == "FilterPolicy" && v == "{}" {
			delete(next.Attributes, name)
		}
		store.Subscriptions.Put(tx, &next)
		return nil
	})
}
