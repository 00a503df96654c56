// Package topics brings the messages of SNS topics to their subscribers: what is published is put into the outbox once for each of them, in
// the publisher's own transaction. Messages are not signed: SignatureVersion and Signature are left out, and a subscriber that wants proof
// of the sender puts a secret into its URL.
package topics

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/outbox"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// Message is what is published.
type Message struct {
	ID         string // a UUID
	Subject    string
	Body       string
	Structure  map[string]string // by protocol, of MessageStructure json; nil else
	Attributes map[string]Attribute
	Only       string // the subscription that it goes to; "" is all
}

// Attribute is a message attribute.
type Attribute struct {
	Type  string
	Value string
}

// attempts is how often a subscriber is tried, as SNS's default policy has it.
const attempts = 50

// Publish puts a message to the topic's subscribers into the outbox. Errors: *model.Error NotFound; that there is no room.
func Publish(tx store.Tx, topicARN string, m Message, now time.Time) error {
	if _, ok := store.Topics.Get(tx, topicARN); !ok {
		return model.Errorf("NotFound", "Topic does not exist")
	}
	var all []*model.Delivery
	for s := range store.Subscriptions.By(tx, store.ByTopic, topicARN) {
		if !s.Confirmed || m.Only != "" && m.Only != s.ARN || !wanted(s, m) {
			continue
		}
		all = append(all, delivery(s, m, now))
	}
	if left := outbox.Put(tx, all...); left > 0 {
		return fmt.Errorf("%d of %d deliveries are left out: too many wait already, or the message is too large", left, len(all))
	}
	return nil
}

// delivery is a message on its way to a subscriber.
func delivery(s *model.Subscription, m Message, now time.Time) *model.Delivery {
	body, ok := m.Structure[s.Protocol]
	if !ok {
		if body, ok = m.Structure["default"]; !ok {
			body = m.Body
		}
	}
	headers := map[string]string{"Content-Type": "text/plain; charset=UTF-8", "User-Agent": "Amazon Simple Notification Service Agent", "x-amz-sns-message-type": "Notification",
		"x-amz-sns-message-id": m.ID, "x-amz-sns-topic-arn": s.TopicARN, "x-amz-sns-subscription-arn": s.ARN}
	if s.Attributes["RawMessageDelivery"] == "true" {
		headers["x-amz-sns-rawdelivery"] = "true"
	} else {
		body = Envelope("Notification", s, m.ID, m.Subject, body, "", m.Attributes, now)
	}
	sum := sha256.Sum256([]byte(m.ID + s.ARN))
	return &model.Delivery{ID: outbox.ID(now, hex.EncodeToString(sum[:12])), Kind: "http", Target: s.Endpoint, Body: body, Headers: headers, Source: s.TopicARN,
		Created: now, Until: now.Add(timeouts.DeliverUntil), Most: attempts}
}

// Confirm asks an endpoint to confirm its subscription.
func Confirm(tx store.Tx, s *model.Subscription, messageID, url string, now time.Time) error {
	text := "You have chosen to subscribe to the topic " + s.TopicARN + ".\nTo confirm the subscription, visit the SubscribeURL included in this message."
	d := &model.Delivery{ID: outbox.ID(now, "confirm-"+s.ID), Kind: "http", Target: s.Endpoint, Body: Envelope("SubscriptionConfirmation", s, messageID, "", text, url, nil, now),
		Headers: map[string]string{"Content-Type": "text/plain; charset=UTF-8", "User-Agent": "Amazon Simple Notification Service Agent",
			"x-amz-sns-message-type": "SubscriptionConfirmation", "x-amz-sns-message-id": messageID, "x-amz-sns-topic-arn": s.TopicARN},
		Source: s.TopicARN, Created: now, Until: now.Add(timeouts.DeliverUntil), Most: attempts}
	if outbox.Put(tx, d) > 0 {
		return fmt.Errorf("too many deliveries wait already")
	}
	return nil
}

// Envelope is the JSON that endpoints get.
func Envelope(kind string, s *model.Subscription, id, subject, body, url string, attributes map[string]Attribute, now time.Time) string {
	type attribute struct{ Type, Value string }
	out := struct {
		Type, MessageId   string
		Token             string `json:",omitempty"`
		TopicArn          string
		Subject           string `json:",omitempty"`
		Message           string
		SubscribeURL      string `json:",omitempty"`
		Timestamp         string
		MessageAttributes map[string]attribute `json:",omitempty"`
	}{Type: kind, MessageId: id, TopicArn: s.TopicARN, Subject: subject, Message: body, SubscribeURL: url, Timestamp: now.UTC().Format("2006-01-02T15:04:05.000Z")}
	if kind != "Notification" {
		out.Token = s.Token
	}
	for name, a := range attributes {
		if out.MessageAttributes == nil {
			out.MessageAttributes = map[string]attribute{}
		}
		out.MessageAttributes[name] = attribute(a)
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(out); err != nil { // of strings
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// wanted applies the subscription's filter policy to the message's attributes: lists of texts that must equal, and prefix, suffix,
// anything-but and exists. The API has refused others.
func wanted(s *model.Subscription, m Message) bool {
	policy := s.Attributes["FilterPolicy"]
	if policy == "" {
		return true
	}
	var want map[string][]any
	if json.Unmarshal([]byte(policy), &want) != nil {
		return false
	}
	for name, list := range want {
		a, ok := m.Attributes[name]
		fits := false
		for _, item := range list {
			fits = fits || fit(item, a.Value, ok)
		}
		if !fits {
			return false
		}
	}
	return true
}

func fit(item any, v string, present bool) bool {
	switch item := item.(type) {
	case string:
		return present && item == v
	case map[string]any:
		for op, arg := range item {
			text, _ := arg.(string)
			switch op {
			case "exists":
				return arg == present
			case "prefix":
				return present && strings.HasPrefix(v, text)
			case "suffix":
				return present && strings.HasSuffix(v, text)
			case "anything-but":
				list, ok := arg.([]any)
				if !ok {
					list = []any{arg}
				}
				for _, x := range list {
					if x == v {
						return false
					}
				}
				return present
			}
		}
	}
	return false
}
