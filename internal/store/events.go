package store

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// EventsOf lists a service's events, newest first. What an older Berth stored in the service comes after those of the table.
func EventsOf(r Reader, s *model.Service) []types.ServiceEvent {
	var all []types.ServiceEvent
	for e := range ServiceEvents.Scan(r, s.Key()+"/") {
		if e.Event.CreatedAt != nil && e.Event.CreatedAt.Before(s.CreatedAt) {
			break // of an earlier service of that name
		}
		all = append(all, e.Event)
	}
	all = append(all, s.Events...)
	return all[:min(len(all), model.KeepEvents)]
}

// AddEvent puts an event in front of a service's and removes the one that is too old to be kept.
func AddEvent(tx Tx, s *model.Service, event types.ServiceEvent) {
	seq := int64(1)
	for newest := range ServiceEvents.Scan(tx, s.Key()+"/") {
		seq = newest.Seq + 1
		break
	}
	ServiceEvents.Put(tx, &model.ServiceEvent{Cluster: s.Cluster, Service: s.Name, Seq: seq, Event: event})
	if old := seq - model.KeepEvents; old > 0 {
		ServiceEvents.Delete(tx, model.ServiceEventKey(s.Key(), old))
	}
}

// MoveEvents takes the events that an older Berth stored in the service into the table.
func MoveEvents(tx Tx, s *model.Service) *model.Service {
	if len(s.Events) == 0 {
		return s
	}
	moved := *s
	moved.Events = nil
	for _, e := range slices.Backward(s.Events) {
		AddEvent(tx, &moved, e)
	}
	Services.Put(tx, &moved)
	return &moved
}
