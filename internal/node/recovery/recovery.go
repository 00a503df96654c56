//go:build linux

// Package recovery is what puts a machine right again after something of Berth was killed, hung, or lost its memory. It is kept in
// one room because each part counts on the others; this is the whole of it, in the order in which it happens.
//
// While all is well, three things are written down, so that there is something to restore from. The agent writes what it was told
// to run (an assignment a task) and what it saw (a record a task); both survive a reboot. The runtime writes that a container was
// begun, and as which process, and the shim how it ended (package note); that is gone with a reboot, as is what it speaks of. And
// who has begun a step with runc finishes it, whether or not its caller is still there (package steps), so that nothing is ever
// found half done that would not be done in the end.
//
// When containerd starts, before it looks at anything: folders of snapshots that were never committed go (SweepSnapshots), because
// the next snapshot would have their number. Then each shim is asked whether it answers (Ward): containerd would wait for one that
// hangs before it serves anybody, and then kill its containers. A shim that hangs is set aside, with its containers running, and
// taken back when it answers. A dead shim is left to containerd, which cleans up after it. What is left of a bundle that was being removed goes:
// while it is there no other of its name can be.
//
// While containerd runs: shims that no container belongs to, because their start was interrupted, are ended (Strays).
//
// When the agent starts: it takes over what its records and assignments name and the runtime still has (agent/resume.go), without
// waiting for the server, and touches nothing that runs. What it is not told of by assignments it leaves alone until the server has
// spoken. From then on, every few seconds, it compares what it believes with what the runtime has (agent/repair.go): exits that
// were missed are found, and what belongs to no task is removed.
//
// When something does not end: after its stopTimeout a container is killed by the shim; if that does not answer, by its cgroup; and
// if the kernel does not end its processes, it is called stuck (CannotStopContainerError) and its task goes on without it
// (agent/stop.go). A shim that hangs is killed when nothing of its task runs any more, never before.
//
// Whose end it was is told by identity, never by the clock: a container's run has an id, a process has its start (package process),
// and what is heard of another run is of no interest.
package recovery

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Shims says where a containerd keeps what it knows of its shims.
type Shims struct {
	State  string // containerd's folder of what ends with a reboot
	Socket string // containerd's own, which is in the shims' command lines
}

// Sockets is the folder in which shims are told to listen.
func (s Shims) Sockets() string { return filepath.Join(s.State, "s") }

// folder holds the bundles of containerd's tasks: a folder a namespace, in it one a container.
func (s Shims) folder() string { return filepath.Join(s.State, "io.containerd.runtime.v2.task") }

// bundle is what containerd keeps of a container.
type bundle struct {
	namespace, id string
	aside         bool   // hidden from containerd
	socket        string // of its shim
}

// Aside returns the containers that were set aside, because their shims do not answer, sorted.
func (s Shims) Aside() []string {
	var ids []string
	for _, b := range s.bundles() {
		if b.aside {
			ids = append(ids, b.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// bundles returns those that name their shim, also those that were set aside.
func (s Shims) bundles() []bundle {
	var all []bundle
	files, _ := filepath.Glob(filepath.Join(s.folder(), "*", "*", "bootstrap.json"))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		var boot struct {
			Address string `json:"address"`
		}
		if json.Unmarshal(data, &boot) != nil {
			continue
		}
		dir := filepath.Dir(f)
		id, aside := strings.CutPrefix(filepath.Base(dir), hidden)
		all = append(all, bundle{namespace: filepath.Base(filepath.Dir(dir)), id: id, aside: aside,
			socket: strings.TrimPrefix(boot.Address, "unix://")})
	}
	return all
}
