package model

import (
	"time"

	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
)

// Topic is an SNS topic. Written by the API.
type Topic struct {
	Name       string
	ARN        string
	Attributes map[string]string // as they were set
	Tags       []snstypes.Tag    `json:",omitempty"`
	CreatedAt  time.Time
}

// Key is the ARN.
func (t *Topic) Key() string { return t.ARN }

// Subscription is an endpoint that a topic's messages go to. Written by the API.
type Subscription struct {
	ID         string // the last part of ARN
	ARN        string
	TopicARN   string
	Protocol   string // http or https
	Endpoint   string
	Owner      string
	Attributes map[string]string `json:",omitempty"` // RawMessageDelivery, FilterPolicy, …
	Token      string            // which confirms it
	Confirmed  bool
	CreatedAt  time.Time
}

// Key is the ARN.
func (s *Subscription) Key() string { return s.ARN }
