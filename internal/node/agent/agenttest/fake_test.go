package agenttest_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/node/agent/agenttest"
	"github.com/berthdev/berth/internal/node/agent/fake"
	"github.com/berthdev/berth/internal/node/agent/logdriver"
)

func TestFake(t *testing.T) {
	images := map[agenttest.Behaviour]string{
		agenttest.Serve: "serve", agenttest.Exit3: "exit:3", agenttest.Exit0: "exit:0", agenttest.Stubborn: "stubborn",
	}
	agenttest.Run(t, func(t *testing.T) agenttest.Env {
		m := fake.New(fake.Config{})
		logs := logdriver.New(logdriver.Config{})
		t.Cleanup(func() {
			logs.Close()
			m.Runtime.Close()
		})
		return agenttest.Env{
			Runtime: m.Runtime, Images: m.Images, Network: m.Network, Logs: logs, Missing: "missing:1",
			Program: func(b agenttest.Behaviour) types.ContainerDefinition {
				return types.ContainerDefinition{Image: new(images[b])}
			},
		}
	})
}
