package agent_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/fake"
)

// TestIdleInteraction has a session that says nothing for 20 minutes end, and one that does say something live.
func TestIdleInteraction(t *testing.T) {
	inBubble(t, fake.Config{}, func(r *rig) {
		id := r.add(define(types.NetworkModeNone, container("web", "serve")))
		r.reach(id, model.Running)
		stdin, in := io.Pipe()
		began, ended := time.Now(), make(chan error, 1)
		go func() {
			defer stdin.Close()
			_, err := r.agent.Interact(context.Background(), id, "web", agent.Interaction{Command: []string{"cat"}, Stdin: stdin, Stdout: io.Discard})
			ended <- err
		}()
		time.Sleep(19 * time.Minute)
		if _, err := io.WriteString(in, "still here\n"); err != nil {
			t.Fatal(err)
		}
		err := <-ended
		if lived := time.Since(began); !errors.Is(err, agent.ErrIdle) || lived != 39*time.Minute {
			t.Errorf("ended after %s: %v", lived, err)
		}
	})
}
