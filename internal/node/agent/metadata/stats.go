package metadata

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/berthdev/berth/internal/node/agent"
)

// Docker's clients read stats as two measurements, of which the newer one tells the use and the older one from when on. The ECS
// agent measures every container each second; Berth measures when it is asked, and remembers what it found for the next time.
const (
	// moment is the time between the two measurements of a container that was not measured lately, for which the request waits.
	moment = 250 * time.Millisecond
	// gap is the least time between measurements that are remembered, and so the time that an answer usually covers at least.
	gap = time.Second
	// lately is how old a measurement may be that the next one is compared with; clients ask every 10 to 30 s.
	lately = time.Minute
)

// pair is a measurement and an older one.
type pair struct{ before, now agent.Usage }

// meter measures containers. What it remembers is forgotten when the container has ended, or nobody has asked for lately.
type meter struct {
	tasks Tasks

	mu    sync.Mutex
	known map[string]*history // by runtime id
}

// history are the two newest measurements that lie a gap apart. older is the zero Usage when there is but one.
type history struct{ older, newer agent.Usage }

func newMeter(tasks Tasks) *meter { return &meter{tasks: tasks, known: map[string]*history{}} }

// measure measures containers by their runtime ids. Those that do not run are left out.
func (m *meter) measure(ctx context.Context, ids []string) (map[string]pair, error) {
	all := map[string]pair{}
	var fresh []string
	for _, id := range ids {
		ok, err := m.once(ctx, id, false, all)
		if err != nil {
			return nil, err
		}
		if !ok {
			fresh = append(fresh, id)
		}
	}
	if len(fresh) == 0 {
		return all, nil
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(moment):
	}
	for _, id := range fresh {
		if _, err := m.once(ctx, id, true, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// once measures a container. ok is false when there is nothing yet to compare it with; last takes whatever there is.
func (m *meter) once(ctx context.Context, id string, last bool, into map[string]pair) (ok bool, err error) {
	now, err := m.tasks.Usage(ctx, id)
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(err, agent.ErrNotRunning) {
		delete(m.known, id)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	h := m.known[id]
	if h == nil || now.At.Sub(h.newer.At) > lately || now.CPU.Total < h.newer.CPU.Total { // less: the container was restarted
		m.forget(now.At)
		m.known[id] = &history{newer: now}
		return false, nil
	}
	age := now.At.Sub(h.newer.At)
	switch {
	case age >= gap:
		into[id] = pair{h.newer, now}
		h.older, h.newer = h.newer, now
	case !h.older.At.IsZero():
		into[id] = pair{h.older, now}
	case age >= moment || last:
		into[id] = pair{h.newer, now}
	default:
		return false, nil
	}
	return true, nil
}

// forget drops the containers for which nobody has asked lately. m.mu is held.
func (m *meter) forget(now time.Time) {
	for id, h := range m.known {
		if now.Sub(h.newer.At) > lately {
			delete(m.known, id)
		}
	}
}

// stats writes the stats of containers of one task, by their names: one as it is, or several by their ids.
func (s *Server) stats(w http.ResponseWriter, r *http.Request, d drawing, subject string, names []string, several bool) {
	ids := make([]string, len(names))
	shapes := make([]containerShape, len(names))
	for i, name := range names {
		shapes[i] = d.container(name)
		ids[i] = shapes[i].DockerID
	}
	measured, err := s.meter.measure(r.Context(), ids)
	if err != nil {
		s.cfg.Log.Warn("containers cannot be measured", "task", d.view.Task.ID, "error", err)
		write(w, http.StatusInternalServerError, subject+"failed to get stats")
		return
	}
	all := map[string]*statsShape{}
	for i, id := range ids {
		all[id] = nil // as the ECS agent answers for one that does not run
		if p, ok := measured[id]; ok {
			all[id] = d.stats(&shapes[i], p)
		}
	}
	if several {
		write(w, http.StatusOK, all)
		return
	}
	write(w, http.StatusOK, all[ids[0]])
}
