package store

import (
	"github.com/berthdev/berth/internal/model"
)

// Alarms, events and what is to be delivered.
var (
	Alarms      = table[model.Alarm]("cw-alarms")
	AlarmEvents = table[model.AlarmEvent]("cw-history")
	Outbox      = table[model.Delivery]("outbox")
)

func eventKinds() []Kind { return []Kind{Alarms.kind(), AlarmEvents.kind(), Outbox.kind()} }
