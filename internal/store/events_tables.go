package store

import (
	"github.com/berthdev/berth/internal/model"
)

// Alarms, events and what is to be delivered.
var (
	Alarms      = table[model.Alarm]("cw-alarms")
	AlarmEvents = table[model.AlarmEvent]("cw-history")
	Outbox      = table[model.Delivery]("outbox")

	EventRules     = table[model.EventRule]("event-rules")
	Schedules      = table[model.Schedule]("schedules")
	ScheduleGroups = table[model.ScheduleGroup]("schedule-groups")
	Ticks          = table[model.Tick]("ticks")
	Tolds          = table[model.Told]("told")

	Topics        = table[model.Topic]("sns-topics")
	Subscriptions = table[model.Subscription]("sns-subscriptions",
		by(ByTopic, func(s *model.Subscription) string { return s.TopicARN }))
)

// ByTopic lists the subscriptions of a topic's ARN.
const ByTopic = "topic"

func eventKinds() []Kind {
	return []Kind{Alarms.kind(), AlarmEvents.kind(), Outbox.kind(), EventRules.kind(), Schedules.kind(), ScheduleGroups.kind(), Ticks.kind(), Tolds.kind(),
		Topics.kind(), Subscriptions.kind()}
}
