package agent_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent/fake"
)

// TestMeter: a meter tells what came since it was asked last, of tasks that run.
func TestMeter(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(types.NetworkModeAwsvpc, container("web", "nginx"), container("side", "nginx")))
		r.assign()
		r.reach(id, model.Running)
		m := r.agent.NewMeter()
		if u := m.Take(context.Background()); len(u.Tasks) != 0 || m.Tasks() != 1 {
			r.Fatalf("at first %+v of %d", u, m.Tasks())
		}
		time.Sleep(10 * time.Second)
		u := m.Take(context.Background())
		if len(u.Tasks) != 1 || u.Tasks[0].TaskID != id || u.Tasks[0].Over != 10*time.Second || u.Tasks[0].CPU <= 0 || u.Tasks[0].Memory == 0 || u.Tasks[0].Received == 0 {
			r.Fatalf("then %+v", u)
		}
		r.stop(id)
		r.reach(id, model.Stopped)
		if u := m.Take(context.Background()); len(u.Tasks) != 0 || m.Tasks() != 0 {
			r.Errorf("after the end %+v of %d", u, m.Tasks())
		}
	})
}
