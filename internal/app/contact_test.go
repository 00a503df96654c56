package app

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// TestLeasesEndWithTheContact: the age grows from the question that was answered last, also while one hangs; a server that is alone has none.
func TestLeasesEndWithTheContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		if s.leaderAge() != 0 {
			t.Errorf("alone: %s", s.leaderAge())
		}
		s.several.Store(true)
		if s.leaderAge() < time.Hour {
			t.Errorf("before any contact: %s", s.leaderAge())
		}
		const takes = 50 * time.Millisecond
		var cut, hangs atomic.Bool
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- s.contact.run(ctx, func(ctx context.Context) error {
				time.Sleep(takes)
				if hangs.Load() {
					<-ctx.Done()
				}
				if cut.Load() {
					return errors.New("nobody leads")
				}
				return nil
			})
		}()
		time.Sleep(10 * timeouts.ServerContact)
		if age := s.leaderAge(); age < takes || age > timeouts.ServerContact+takes {
			t.Errorf("in contact: %s", age)
		}
		synctest.Wait()
		time.Sleep(2 * takes)
		cut.Store(true)
		time.Sleep(time.Minute)
		if age := s.leaderAge(); age < time.Minute {
			t.Errorf("a minute after it was lost: %s", age)
		}
		synctest.Wait()
		time.Sleep(2 * takes)
		cut.Store(false)
		hangs.Store(true)
		time.Sleep(time.Minute)
		if age := s.leaderAge(); age < 2*time.Minute {
			t.Errorf("while a question hangs: %s", age)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
