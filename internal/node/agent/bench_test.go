package agent_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/fake"
	"github.com/berthdev/berth/internal/node/agent/logdriver"
	"github.com/berthdev/berth/internal/plan/task"
)

// BenchmarkAssignToRunning is what the agent itself adds to a start: everything but the runtime, the network and the image, with
// the real log driver and records on the disk.
func BenchmarkAssignToRunning(b *testing.B) {
	m := fake.New(fake.Config{})
	logs := logdriver.New(logdriver.Config{})
	defer logs.Close()
	reports := make(chan model.Report, 100)
	a := agent.New(agent.Config{
		Runtime: m.Runtime, Images: m.Images, Network: m.Network, Logs: logs, StateDir: b.TempDir(), Region: "us-east-1",
		Report: func(r model.Report) { reports <- r },
	})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	ids := 0
	newID := func() string { ids++; return fmt.Sprintf("%032x", ids) }
	def := define(awsvpc, container("web", "nginx"))
	var set []model.Assignment
	for b.Loop() {
		t := task.New(task.Spec{Cluster: "c", Definition: &model.TaskDefinition{Family: "f", Revision: 1, Definition: def}, Now: time.Now(), NewID: newID})
		set = append(set, model.Assignment{Task: t, Definition: def})
		a.SetAssignments(set)
		for r := range reports {
			if r.TaskID == t.ID && r.Observed.Status == model.Running {
				break
			}
		}
	}
}
