package logstore

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/cockroachdb/pebble"
)

// Group is a log group. Times are Unix milliseconds.
type Group struct {
	Name          string            `json:"name"`
	CreatedAt     int64             `json:"createdAt"`
	RetentionDays int               `json:"retentionDays,omitempty"` // 0: events never expire
	Tags          map[string]string `json:"tags,omitempty"`
	// Class, KMSKey and DeletionProtected are kept for the API; only DeletionProtected has an effect here.
	Class             string `json:"class,omitempty"`
	KMSKey            string `json:"kmsKey,omitempty"`
	DeletionProtected bool   `json:"deletionProtected,omitempty"`
	// ID is given by CreateGroup and never used again, also when the group's name is.
	ID uint64 `json:"id"`
	// Version rises with each change: of two servers' records of a group the greater counts. Born is the version of the deletion that the
	// group came after; 0: there was none. Gone has the streams that were deleted since, and when: Unix milliseconds.
	Version int64            `json:"version,omitempty"`
	Born    int64            `json:"born,omitempty"`
	Gone    map[string]int64 `json:"gone,omitempty"`
}

var groupName = regexp.MustCompile(`^[.\-_/#A-Za-z0-9]{1,512}$`)

// CheckGroupName returns an ErrBadName that says what a group may be called.
func CheckGroupName(name string) error {
	if groupName.MatchString(name) {
		return nil
	}
	return fmt.Errorf("%w: a log group's name is 1 to 512 characters of a-z, A-Z, 0-9, '_', '-', '/', '.' and '#'", ErrBadName)
}

// CreateGroup makes a group; ID and, when it is zero, CreatedAt are filled in.
// Errors: ErrGroupExists, ErrBadName, ErrDiskFull.
func (s *Store) CreateGroup(g Group) error {
	if err := CheckGroupName(g.Name); err != nil {
		return err
	}
	if err := s.checkSpace(); err != nil {
		return err
	}
	return s.change(func(b *pebble.Batch) (err error) {
		var old Group
		if found, err := s.get(groupKey(g.Name), &old); err != nil || found {
			return orIf(err, ErrGroupExists)
		}
		if g.ID, err = s.newID(b); err != nil {
			return err
		}
		if g.CreatedAt == 0 {
			g.CreatedAt = s.now().UnixMilli()
		}
		if g.Born, err = s.deleted(g.Name); err != nil {
			return err
		}
		g.Version, g.Gone = s.version(g.Born), nil
		return put(b, groupKey(g.Name), g)
	})
}

// UpdateGroup lets f change the group's record; its name, id and creation time stay. Errors: ErrNoGroup, and f's.
func (s *Store) UpdateGroup(name string, f func(*Group) error) error {
	return s.change(func(b *pebble.Batch) error {
		old, err := s.group(name)
		if err != nil {
			return err
		}
		g := old
		if err := f(&g); err != nil {
			return err
		}
		g.Name, g.ID, g.CreatedAt, g.Born, g.Gone = old.Name, old.ID, old.CreatedAt, old.Born, old.Gone
		g.Version = s.version(old.Version)
		return put(b, groupKey(name), g)
	})
}

// DeleteGroup deletes a group with all its streams and events. Errors: ErrNoGroup, ErrProtected.
func (s *Store) DeleteGroup(name string) error {
	return s.change(func(b *pebble.Batch) error {
		g, err := s.group(name)
		if err != nil {
			return err
		}
		if g.DeletionProtected {
			return ErrProtected
		}
		return s.drop(b, g, s.version(g.Version))
	})
}

// drop adds to b the deletion of a group with all that it has, as the version at.
func (s *Store) drop(b *pebble.Batch, g Group, at int64) error {
	if err := b.Delete(groupKey(g.Name), nil); err != nil {
		return err
	}
	for _, all := range [][]byte{streamKey(g.ID, ""), originKey(g.ID, 0, "")[:9], groupEvents(g.ID)} {
		if err := b.DeleteRange(all, under(all), nil); err != nil {
			return err
		}
	}
	return put(b, deletedKey(g.Name), at)
}

// Group returns a group. Errors: ErrNoGroup.
func (s *Store) Group(name string) (Group, error) {
	leave, err := s.enter()
	if err != nil {
		return Group{}, err
	}
	defer leave()
	return s.group(name)
}

func (s *Store) group(name string) (g Group, err error) {
	found, err := s.get(groupKey(name), &g)
	if err == nil && !found {
		err = ErrNoGroup
	}
	return g, err
}

// Groups returns up to limit groups whose name begins with prefix and comes after the name after, in the order of their names.
// A limit of 0 means all.
func (s *Store) Groups(prefix, after string, limit int) (groups []Group, err error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	err = s.list(groupKey(prefix), groupKey(after), limit, func(data []byte) error {
		var g Group
		if err := json.Unmarshal(data, &g); err != nil {
			return err
		}
		groups = append(groups, g)
		return nil
	})
	return groups, err
}

// StoredBytes estimates the bytes that a group's events take on the disk; what was written lately is not counted yet.
func (s *Store) StoredBytes(g Group) (int64, error) {
	leave, err := s.enter()
	if err != nil {
		return 0, err
	}
	defer leave()
	events := groupEvents(g.ID)
	n, err := s.db.EstimateDiskUsage(events, under(events))
	if err != nil {
		return 0, fmt.Errorf("estimate the size of log group %s: %w", g.Name, err)
	}
	return int64(n), nil
}

// list calls f with up to limit records whose key begins with prefix and is greater than after.
func (s *Store) list(prefix, after []byte, limit int, f func(data []byte) error) error {
	lower := prefix
	if string(after) >= string(prefix) {
		lower = append(after, 0)
	}
	rows, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: under(prefix)})
	if err != nil {
		return fmt.Errorf("read log store: %w", err)
	}
	defer rows.Close()
	n := 0
	for ok := rows.First(); ok && (limit == 0 || n < limit); ok = rows.Next() {
		if err := f(rows.Value()); err != nil {
			return fmt.Errorf("log store record %q: %w", rows.Key(), err)
		}
		n++
	}
	if err := rows.Error(); err != nil {
		return fmt.Errorf("read log store: %w", err)
	}
	return nil
}

// cutoff is the first moment whose events the group still keeps; ok is false when it keeps all.
func (g Group) cutoff(now time.Time) (at int64, ok bool) {
	if g.RetentionDays <= 0 {
		return 0, false
	}
	return now.AddDate(0, 0, -g.RetentionDays).UnixMilli(), true
}

func groupEvents(group uint64) []byte { return eventKey(group, 0, 0, 0)[:9] }

func orIf(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// CheckStreamName returns an ErrBadName that says what a stream may be called.
func CheckStreamName(name string) error {
	if name == "" || len(name) > 512 || strings.ContainsAny(name, ":*\x00") {
		return fmt.Errorf("%w: a log stream's name is 1 to 512 characters without ':' and '*'", ErrBadName)
	}
	return nil
}
