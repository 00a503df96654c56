// Package logs is the CloudWatch Logs API over the platform's log store: groups, streams, events, retention and tags.
package logs

import (
	"context"
	"iter"
	"log/slog"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/logstore"
)

// Config is what the API needs.
type Config struct {
	Store Store
	Scope model.Scope
	Now   func() time.Time
	Log   *slog.Logger
}

// Store is the log store: of this server, or of several together (logstore/copies).
type Store interface {
	Groups
	Streams
	Events
}

// Groups are the log groups of a Store.
type Groups interface {
	CreateGroup(logstore.Group) error
	UpdateGroup(name string, f func(*logstore.Group) error) error
	DeleteGroup(name string) error
	Group(name string) (logstore.Group, error)
	Groups(prefix, after string, limit int) ([]logstore.Group, error)
	StoredBytes(logstore.Group) (int64, error)
}

// Streams are the log streams of a Store.
type Streams interface {
	CreateStream(group, stream string) error
	DeleteStream(group, stream string) error
	Stream(group, stream string) (logstore.Stream, error)
	Streams(group, prefix, after string, limit int) ([]logstore.Stream, error)
}

// Events are the log events of a Store.
type Events interface {
	Write(ctx context.Context, group, stream string, events []model.LogEvent) error
	Scan(ctx context.Context, group string, q logstore.Query) iter.Seq2[logstore.Event, error]
}

type api struct{ Config }

// New makes the service.
func New(c Config) *wire.Service {
	a := &api{c}
	s := &wire.Service{Name: "logs", Protocol: wire.JSON11, Target: "Logs_20140328",
		Types: sdk.TypeRegistry, Asks: a.asks}
	a.handleGroups(s)
	wire.Handle(s, a.createLogStream)
	wire.Handle(s, a.deleteLogStream)
	wire.Handle(s, a.describeLogStreams)
	wire.Handle(s, a.putLogEvents)
	wire.Handle(s, a.getLogEvents)
	wire.Handle(s, a.filterLogEvents)
	return s
}

// handleGroups adds the operations on groups and their tags.
func (a *api) handleGroups(s *wire.Service) {
	wire.Handle(s, a.createLogGroup)
	wire.Handle(s, a.deleteLogGroup)
	wire.Handle(s, a.describeLogGroups)
	wire.Handle(s, a.putRetentionPolicy)
	wire.Handle(s, a.deleteRetentionPolicy)
	wire.Handle(s, a.putLogGroupDeletionProtection)
	wire.Handle(s, a.tagResource)
	wire.Handle(s, a.untagResource)
	wire.Handle(s, a.listTagsForResource)
	wire.Handle(s, a.tagLogGroup)
	wire.Handle(s, a.untagLogGroup)
	wire.Handle(s, a.listTagsLogGroup)
}

func (a *api) createLogStream(_ context.Context, in *sdk.CreateLogStreamInput) (*sdk.CreateLogStreamOutput, error) {
	if err := checkNames(in.LogGroupName, in.LogStreamName); err != nil {
		return nil, err
	}
	if err := a.Store.CreateStream(*in.LogGroupName, *in.LogStreamName); err != nil {
		return nil, refusal(err)
	}
	return &sdk.CreateLogStreamOutput{}, nil
}

func (a *api) deleteLogStream(_ context.Context, in *sdk.DeleteLogStreamInput) (*sdk.DeleteLogStreamOutput, error) {
	if err := checkNames(in.LogGroupName, in.LogStreamName); err != nil {
		return nil, err
	}
	if err := a.Store.DeleteStream(*in.LogGroupName, *in.LogStreamName); err != nil {
		return nil, refusal(err)
	}
	return &sdk.DeleteLogStreamOutput{}, nil
}

// groupARN is the ARN of a group; AWS writes ":*" behind it where it stands for the group's streams.
func (a *api) groupARN(name string) string { return a.Scope.ARN("logs", "log-group:"+name) }

// groupOf finds a group's name by its name or an ARN of it; one of the two must be given.
func (a *api) groupOf(name, identifier *string) (string, error) {
	switch {
	case name != nil && identifier != nil:
		return "", invalid("LogGroup name and LogGroup ARN are mutually exclusive parameters.")
	case name != nil:
		return *name, checkGroup(name)
	case identifier == nil:
		return "", invalid("At least one of the following must be provided: logGroupName, logGroupIdentifier.")
	case strings.Contains(*identifier, "*"): // the model's pattern of a LogGroupIdentifier lacks it: an ARN is given without ":*"
		return "", invalid("1 validation error detected: Value '%s' at 'logGroupIdentifier' failed to satisfy constraint: Member must satisfy "+
			`regular expression pattern: [\w#+=/:,.@-]*`, *identifier)
	case strings.HasPrefix(*identifier, "arn:"):
		return a.groupOfARN(*identifier)
	}
	return *identifier, checkGroup(identifier)
}

// groupOfARN finds a group's name in its ARN, with or without ":*".
func (a *api) groupOfARN(arn string) (string, error) {
	name, ok := strings.CutPrefix(strings.TrimSuffix(arn, ":*"), a.groupARN(""))
	if !ok || logstore.CheckGroupName(name) != nil {
		return "", model.Errorf("ResourceNotFoundException", "The specified log group does not exist.")
	}
	return name, nil
}
