// Package agenttest is the one suite for machines: an agent on agent/fake and an agent on real containers must pass the same
// tests. Run is called with a function that makes a fresh machine for each test.
package agenttest

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/node/agent"
)

// Env is a machine to test.
type Env struct {
	Runtime agent.Runtime
	Images  agent.Images
	Network agent.Network
	Logs    agent.Logs

	RunDir string // of the agent

	// Program makes a container definition whose process behaves so. It sets at least image, and command if the image needs one.
	Program func(Behaviour) types.ContainerDefinition
	// Modes are the network modes to try; none means all four.
	Modes []types.NetworkMode
	// Missing is the reference of an image that cannot be pulled.
	Missing string
	// Shell: the image of Serve has /bin/sh, and what it runs is real. Enables the tests that look from inside.
	Shell bool
	// Memory: memory limits are real. Enables the test of the OOM kill.
	Memory bool
	// Patience is how long a test waits for anything; 0 means 30 s.
	Patience time.Duration
	// Settled, if set, is called at the end of each test, when nothing runs any more: it fails t if the machine still holds
	// anything (a mount, a cgroup, a veth).
	Settled func(t *testing.T)
}

// Behaviour is what a program does.
type Behaviour int

// The behaviours.
const (
	Serve    Behaviour = iota // run until SIGTERM, then exit 0
	Exit3                     // exit at once with code 3
	Exit0                     // exit at once with code 0
	Stubborn                  // ignore SIGTERM
	Eat                       // allocate memory until killed; only where Env.Memory
)

// Shell makes the programs of an image that has a POSIX /bin/sh, such as busybox.
func Shell(image string) func(Behaviour) types.ContainerDefinition {
	scripts := map[Behaviour]string{
		Serve:    `trap 'echo got SIGTERM; exit 0' TERM; echo started; while :; do sleep 1 & wait $!; done`,
		Exit3:    `echo leaving; exit 3`,
		Exit0:    `exit 0`,
		Stubborn: `trap '' TERM; while :; do sleep 1 & wait $!; done`,
		Eat:      `x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done`,
	}
	return func(b Behaviour) types.ContainerDefinition {
		return types.ContainerDefinition{Image: &image, EntryPoint: []string{"/bin/sh", "-c"}, Command: []string{scripts[b]}}
	}
}

// Run runs the suite.
func Run(t *testing.T, env func(t *testing.T) Env) {
	for _, c := range []struct {
		name string
		test func(*rig)
	}{
		{"RunsAndStopsInEveryMode", runsAndStops},
		{"ExitCode", exitCode},
		{"EssentialExitStopsTheOthers", essentialExit},
		{"SidecarExitDoesNot", sidecarExit},
		{"DependencyOrder", dependencyOrder},
		{"StopTimeoutKills", stopTimeout},
		{"Health", health},
		{"Override", override},
		{"MissingImage", missingImage},
		{"PortsDoNotCollide", ports},
		{"RestartAdopts", restartAdopts},
		{"RestartAtAnyMoment", restartAtAnyMoment},
		{"ExitsMeanwhileAreReported", exitsMeanwhile},
		{"UnassignedIsRemoved", unassigned},
		{"VolumesAreShared", volumes},
		{"EnvironmentAndFiles", inside},
		{"FilesAreBounded", filesAreBounded},
		{"OutOfMemory", outOfMemory},
		{"Measured", measured},
		{"Interact", interact},
		{"InteractEndsWithTheTask", interactEnds},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, env(t))
			defer r.settle()
			c.test(r)
		})
	}
}
