package containerd

import (
	"log/slog"

	contrib "github.com/containerd/containerd/v2/contrib/apparmor"
	"github.com/containerd/containerd/v2/pkg/apparmor"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// profileName is that of Docker's default profile as Berth loads it.
const profileName = "berth-default"

// loadProfile has the kernel know the default profile, where it has AppArmor and the machine its tools.
func loadProfile(log *slog.Logger) bool {
	if !apparmor.HostSupports() {
		return false // berth doctor says so
	}
	if err := contrib.LoadDefaultProfile(profileName); err != nil {
		log.Warn("AppArmor's default profile cannot be loaded; containers run without one", "error", err)
		return false
	}
	return true
}

// confine gives a container that is not privileged the default profile.
func (m machine) confine(spec *specs.Spec) {
	if m.apparmor {
		spec.Process.ApparmorProfile = profileName
	}
}
