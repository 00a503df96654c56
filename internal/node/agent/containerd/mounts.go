package containerd

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthdev/berth/internal/node/agent"
)

const defaultShm = 64 // MiB, Docker's

// mounts are the file systems of every Linux container, the definition's tmpfs and the spec's own mounts, parents before what is
// mounted below them.
func mounts(spec agent.ContainerSpec, m machine) ([]specs.Mount, error) {
	d := &spec.Definition
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev",
			"relatime", "ro"}},
	}
	if spec.IPCMode == types.IpcModeHost {
		all = append(all,
			specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/dev/mqueue", Options: []string{"rbind", "nosuid",
				"noexec", "nodev"}},
			specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "nosuid", "noexec",
				"nodev"}})
		if _, err := os.Stat("/dev/mqueue"); errors.Is(err, fs.ErrNotExist) {
			all = slices.DeleteFunc(all, func(m specs.Mount) bool { return m.Destination == "/dev/mqueue" })
		}
	} else {
		size := int32(defaultShm)
		if d.LinuxParameters != nil && deref(d.LinuxParameters.SharedMemorySize) > 0 {
			size = *d.LinuxParameters.SharedMemorySize
		}
		all = append(all,
			specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
				Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%dm", size)}})
	}
	own, err := ownMounts(spec, m)
	if err != nil {
		return nil, err
	}
	for _, m := range own {
		all = slices.DeleteFunc(all, func(o specs.Mount) bool { return o.Destination == m.Destination })
		all = append(all, m)
	}
	slices.SortStableFunc(all, func(a, b specs.Mount) int { return depth(a.Destination) - depth(b.Destination) })
	return all, nil
}

func depth(p string) int { return len(strings.Split(strings.Trim(path.Clean(p), "/"), "/")) }

// ownMounts are the definition's tmpfs and the spec's mounts; the spec's win.
func ownMounts(spec agent.ContainerSpec, on machine) ([]specs.Mount, error) {
	var all []specs.Mount
	if p := spec.Definition.LinuxParameters; p != nil {
		for _, t := range p.Tmpfs {
			options := append([]string{"nosuid", "nodev", fmt.Sprintf("size=%dm", t.Size)}, t.MountOptions...)
			all = append(all, specs.Mount{Destination: path.Clean(deref(t.ContainerPath)), Type: "tmpfs", Source: "tmpfs",
				Options: options})
		}
	}
	for _, m := range spec.Mounts {
		mount := specs.Mount{Destination: path.Clean(m.Destination), Type: m.Type, Source: m.Source}
		access := "rw"
		if m.ReadOnly {
			access = "ro"
		}
		switch m.Type {
		case "bind":
			if _, err := os.Stat(m.Source); err != nil {
				return nil, cannotCreate("mount %s at %s: %v", m.Source, m.Destination, err)
			}
			mount.Options = []string{"rbind", "rprivate", access}
			if m.ReadOnly && on.recursive {
				mount.Options = append(mount.Options, "rro") // with what is mounted below it
			}
		case "tmpfs":
			mount.Source, mount.Options = "tmpfs", append([]string{"nosuid", "nodev", access}, m.Options...)
		case "nfs":
			if err := nfsMount(&mount, m); err != nil {
				return nil, err
			}
		default:
			return nil, cannotCreate("mount at %s: %q is not a type of mount that Berth knows", m.Destination, m.Type)
		}
		all = append(all, mount)
	}
	for _, m := range all {
		if !absolute(m.Destination) || m.Destination == "/" {
			return nil, cannotCreate("cannot mount at %q: it must be an absolute path below /", m.Destination)
		}
	}
	return all, nil
}

// addDevices gives the container the devices of linuxParameters.
func addDevices(spec *specs.Spec, from agent.ContainerSpec) error {
	if err := addGPUs(spec, from); err != nil {
		return err
	}
	p := from.Definition.LinuxParameters
	if p == nil {
		return nil
	}
	for _, dev := range p.Devices {
		host := deref(dev.HostPath)
		device, err := oci.DeviceFromPath(host)
		if err != nil {
			return cannotCreate("the device %s cannot be given to container %s: %v", host, from.Name, err)
		}
		device.Path = firstOf(deref(dev.ContainerPath), host)
		if !absolute(device.Path) {
			return cannotCreate("the containerPath %q of the device %s is not an absolute path", device.Path, host)
		}
		spec.Linux.Devices = append(spec.Linux.Devices, *device)
		spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: device.Type, Major: &device.Major, Minor: &device.Minor, Access: access(dev.Permissions)})
	}
	return nil
}

// gpuControl are the devices through which all GPUs are used, where the driver has them.
var gpuControl = []string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"}

// addGPUs gives the container its GPUs. The driver's libraries are the image's affair.
func addGPUs(spec *specs.Spec, from agent.ContainerSpec) error {
	if len(from.GPUs) == 0 {
		return nil
	}
	var paths []string
	for _, number := range from.GPUs {
		paths = append(paths, "/dev/nvidia"+number)
	}
	for i, path := range append(paths, gpuControl...) {
		device, err := oci.DeviceFromPath(path)
		if err != nil && i >= len(paths) && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return cannotCreate("the GPU %s cannot be given to container %s: %v", path, from.Name, err)
		}
		spec.Linux.Devices = append(spec.Linux.Devices, *device)
		spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: device.Type, Major: &device.Major, Minor: &device.Minor, Access: "rwm"})
	}
	return nil
}

func access(permissions []types.DeviceCgroupPermission) string {
	all := ""
	for _, p := range permissions {
		switch p {
		case types.DeviceCgroupPermissionRead:
			all += "r"
		case types.DeviceCgroupPermissionWrite:
			all += "w"
		case types.DeviceCgroupPermissionMknod:
			all += "m"
		}
	}
	return firstOf(all, "rwm")
}

// nfsMount is an NFS export, mounted in the container's own namespaces: it goes with the container, and is reached as the task reaches
// others. The kernel wants the server's address, which mount(8) would look up.
func nfsMount(to *specs.Mount, m agent.Mount) error {
	host, _, _ := strings.Cut(m.Source, ":/")
	addresses, err := net.LookupHost(host)
	if err != nil || len(addresses) == 0 {
		return cannotCreate("mount %s at %s: the NFS server is not found: %v", m.Source, m.Destination, err)
	}
	to.Type = "nfs4"
	to.Options = []string{"vers=4.1", "addr=" + addresses[0], "hard", "timeo=600", "retrans=2", "noresvport"}
	if m.Port != "" {
		to.Options = append(to.Options, "port="+m.Port)
	}
	if m.ReadOnly {
		to.Options = append(to.Options, "ro")
	}
	return nil
}
