package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// Where the kernel has AppArmor, containers are held by the default profile, and privileged ones are not. `make test-cgroup2` runs this in
// a virtual machine.
func TestAppArmorHoldsContainers(t *testing.T) {
	enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if _, err := os.Stat("/sbin/apparmor_parser"); err != nil || !strings.HasPrefix(string(enabled), "Y") {
		t.Skip("this machine has no AppArmor: run `make test-cgroup2`")
	}
	b := start(t)
	b.importImage("app:1")
	for want, privileged := range map[string]bool{"berth-default (enforce)": false, "unconfined": true} {
		def := b.register("confined", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
			Privileged: aws.Bool(privileged)})
		arn := b.run(def, 1, types.NetworkModeAwsvpc)[0]
		b.reaches(arn, "RUNNING")
		profile, err := os.ReadFile("/proc/" + webPID(t, arn) + "/attr/current")
		if got := strings.TrimSpace(string(profile)); err != nil || got != want {
			t.Errorf("privileged %v: the profile is %q, %v; want %q", privileged, got, err, want)
		}
	}
}
