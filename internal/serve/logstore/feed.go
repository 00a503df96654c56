package logstore

import (
	"context"
	"sync"
)

// feed tells followers that a group has new events.
type feed struct {
	mu        sync.Mutex
	closed    bool
	followers map[string]map[*follower]struct{} // by group
}

type follower struct {
	notices chan struct{} // holds one notice: further ones say nothing new
	forget  func() bool
}

// Follow returns a channel that receives after later writes to the group, which need not exist yet. Notices are coalesced. The
// channel is closed when ctx is done or the store closes.
func (s *Store) Follow(ctx context.Context, group string) <-chan struct{} {
	f := &follower{notices: make(chan struct{}, 1)}
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	if s.feed.closed || ctx.Err() != nil {
		close(f.notices)
		return f.notices
	}
	if s.feed.followers == nil {
		s.feed.followers = map[string]map[*follower]struct{}{}
	}
	if s.feed.followers[group] == nil {
		s.feed.followers[group] = map[*follower]struct{}{}
	}
	s.feed.followers[group][f] = struct{}{}
	f.forget = context.AfterFunc(ctx, func() {
		s.feed.mu.Lock()
		defer s.feed.mu.Unlock()
		s.feed.drop(group, f)
	})
	return f.notices
}

func (d *feed) tell(group string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for f := range d.followers[group] {
		select {
		case f.notices <- struct{}{}:
		default:
		}
	}
}

func (d *feed) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for group, followers := range d.followers {
		for f := range followers {
			f.forget()
			d.drop(group, f)
		}
	}
}

// drop needs mu.
func (d *feed) drop(group string, f *follower) {
	if _, there := d.followers[group][f]; !there {
		return
	}
	delete(d.followers[group], f)
	if len(d.followers[group]) == 0 {
		delete(d.followers, group)
	}
	close(f.notices)
}
