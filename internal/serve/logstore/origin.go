package logstore

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble"

	"github.com/berthdev/berth/internal/model"
)

// origin is what a stream knows of one source of its lines.
type origin struct {
	at     model.LogPosition
	number uint64 // tells its lines from those of the stream's other sources: 1 to maxNumber
}

// A line's number within its millisecond is, from the top: 19 bits of its source's number, one of the output, and the line's offset in
// it. It is the same wherever the line is stored, so that copies of a stream are the same. Events without a source are numbered from 0.
const (
	offsetBits = 44
	maxNumber  = 1<<19 - 1
)

func (o origin) line(l model.LogLine) uint64 {
	return o.number<<(offsetBits+1) | uint64(l.Output)<<offsetBits | uint64(l.Start)&(1<<offsetBits-1)
}

// originKey needs the stream's id, as other streams' sources may have the same name.
func originKey(group, stream uint64, source string) []byte {
	k := binary.BigEndian.AppendUint64([]byte{tagSource}, group)
	return append(binary.BigEndian.AppendUint64(k, stream), source...)
}

func (o origin) encode() []byte {
	v := binary.AppendUvarint(nil, uint64(o.at[0]))
	v = binary.AppendUvarint(v, uint64(o.at[1]))
	return binary.AppendUvarint(v, o.number)
}

func decodeOrigin(v []byte) (o origin, err error) {
	var numbers [3]uint64
	for i := range numbers {
		var n int
		if numbers[i], n = binary.Uvarint(v); n <= 0 {
			return o, errors.New("a position in the log store is damaged")
		}
		v = v[n:]
	}
	return origin{model.LogPosition{int64(numbers[0]), int64(numbers[1])}, numbers[2]}, nil
}

// origin returns what is known of a source; one that is not known gets a number that no other source of the stream has.
func (s *Store) origin(g Group, st Stream, source string) (o origin, err error) {
	data, release, err := s.db.Get(originKey(g.ID, st.ID, source))
	if err == nil {
		defer release.Close()
		return decodeOrigin(data)
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return o, fmt.Errorf("read log store: %w", err)
	}
	taken := map[uint64]bool{0: true}
	all := originKey(g.ID, st.ID, "")
	err = s.list(all, nil, 0, func(data []byte) error {
		other, err := decodeOrigin(data)
		taken[other.number] = true
		return err
	})
	sum := sha256.Sum256([]byte(source))
	for o.number = binary.BigEndian.Uint64(sum[:]) & maxNumber; taken[o.number] && len(taken) <= maxNumber; {
		o.number = (o.number + 1) & maxNumber
	}
	return o, err
}
