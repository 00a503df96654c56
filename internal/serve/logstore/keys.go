package logstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble"
)

// The key space. Numbers are big-endian, so keys sort by them; names come last in their keys.
//
//	d <group name>                    → the version of the group's last deletion, JSON
//	g <group name>                    → Group, JSON
//	1 <group name> 0 <stream name>    → Single, JSON
//	s <group id> <stream name>        → Stream, JSON
//	e <group id> <stream id> <at> <n> → an event: uvarint of the ingestion time, then the message
//	n                                 → the next free id
//	p <group id> <stream id> <source> → the source's two offsets and its number, uvarints
const (
	tagGone   = 'd'
	tagEvent  = 'e'
	tagGroup  = 'g'
	tagNextID = 'n'
	tagSingle = '1'
	tagSource = 'p'
	tagStream = 's'
)

func groupKey(name string) []byte { return append([]byte{tagGroup}, name...) }

func deletedKey(group string) []byte { return append([]byte{tagGone}, group...) }

func streamKey(group uint64, name string) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{tagStream}, group), name...)
}

func eventKey(group, stream uint64, at int64, n uint64) []byte {
	k := make([]byte, 1, 33)
	k[0] = tagEvent
	k = binary.BigEndian.AppendUint64(k, group)
	k = binary.BigEndian.AppendUint64(k, stream)
	k = binary.BigEndian.AppendUint64(k, uint64(max(0, at)))
	return binary.BigEndian.AppendUint64(k, n)
}

// under returns the first key past all keys that begin with prefix.
func under(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func encodeEvent(ingested int64, message string) []byte {
	v := binary.AppendUvarint(make([]byte, 0, 6+len(message)), uint64(max(0, ingested)))
	return append(v, message...)
}

func decodeEvent(key, value []byte) (Event, error) {
	ingested, n := binary.Uvarint(value)
	if len(key) != 33 || n <= 0 {
		return Event{}, fmt.Errorf("log event at %x is damaged", key)
	}
	return Event{
		Position: Position{
			At:     int64(binary.BigEndian.Uint64(key[17:])),
			Stream: binary.BigEndian.Uint64(key[9:]),
			N:      binary.BigEndian.Uint64(key[25:]),
		},
		Ingested: int64(ingested),
		Message:  string(value[n:]),
	}, nil
}

// get decodes the record at key into v; found is false when there is none.
func (s *Store) get(key []byte, v any) (found bool, err error) {
	data, release, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read log store: %w", err)
	}
	defer release.Close()
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("log store record %q is damaged: %w", key, err)
	}
	return true, nil
}

func put(b *pebble.Batch, key []byte, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode log store record %q: %w", key, err)
	}
	return b.Set(key, data, nil)
}

func (s *Store) loadNextID() (uint64, error) {
	next := uint64(1)
	_, err := s.get([]byte{tagNextID}, &next)
	return next, err
}

// newID takes an id that no group or stream ever had; b makes that lasting. Needs mu.
func (s *Store) newID(b *pebble.Batch) (uint64, error) {
	id := s.nextID
	s.nextID++
	return id, put(b, []byte{tagNextID}, s.nextID)
}
