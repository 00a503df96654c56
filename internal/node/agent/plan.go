package agent

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// plan is a container to create, and what must be on the disk before. It is made on the task's goroutine and carried out beside it.
type plan struct {
	spec    ContainerSpec
	files   []file
	folders []folder
	dir     string // of the files; "" when they may be where they are
}

// file is a generated file.
type file struct {
	path    string
	content []byte
}

// folder is the source of a mount.
type folder struct {
	path string
	mode os.FileMode
	// must tells what to say when the folder is not there; "" makes it.
	must string
	// scoped: it goes with the task.
	scoped bool
	// nfs, when not nil, is mounted instead of a folder.
	nfs *efs
}

// prepare puts everything on the disk that the container mounts.
func (p plan) prepare() error {
	for _, f := range p.folders {
		if _, err := os.Stat(f.path); err == nil {
			continue
		} else if f.must != "" {
			return &Error{Name: "ResourceInitializationError", Message: f.must}
		}
		if err := os.MkdirAll(f.path, 0o755); err != nil {
			return &Error{Name: "ResourceInitializationError", Message: fmt.Sprintf("make the folder of a volume: %v", err)}
		}
		if err := os.Chmod(f.path, f.mode); err != nil { // past the umask
			return &Error{Name: "ResourceInitializationError", Message: fmt.Sprintf("make the folder of a volume: %v", err)}
		}
	}
	if err := p.boundFiles(); err != nil {
		return fmt.Errorf("container files: %w", err)
	}
	for _, f := range p.files {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
			return fmt.Errorf("container files: %w", err)
		}
		if err := os.WriteFile(f.path, f.content, 0o644); err != nil {
			return fmt.Errorf("container files: %w", err)
		}
	}
	return nil
}

// boundFiles has the generated files be where they cannot fill the machine.
func (p plan) boundFiles() error {
	bounded := false
	if p.dir != "" {
		var err error
		if bounded, err = makeFilesDir(p.dir); err != nil {
			return err
		}
	}
	for i, m := range p.spec.Mounts {
		if slices.ContainsFunc(p.files, func(f file) bool { return f.path == m.Source }) {
			p.spec.Mounts[i].ReadOnly = m.ReadOnly || !bounded
		}
	}
	return nil
}

// plan makes the specification of c, whose image, network and log are ready.
func (t *task) plan(c *container) plan {
	cpu, memory := taskSize(t.as.Task, t.def)
	spec := ContainerSpec{
		ID: c.id, TaskID: t.id, Name: c.name(), Run: c.rec.Run, Image: c.rec.Image, Definition: c.def,
		Hostname: t.hostname(c), TaskCPU: cpu, TaskMemory: memory, TaskDisk: taskDisk(t.as.Task, t.def), PIDMode: t.def.PidMode, IPCMode: t.def.IpcMode,
		Stdout: c.logFiles.Stdout, Stderr: c.logFiles.Stderr, LogBound: c.logFiles.Bound, Labels: t.labels(c), GPUs: c.rec.GPUs,
	}
	if info := t.netInfo(c); info != nil {
		spec.NetnsPath = info.NetnsPath
	}
	spec.Env = t.environment(c, spec.Hostname)
	p := plan{}
	if t.agent.cfg.RunDir != "" {
		p.dir = t.filesDir()
	}
	p.folders, spec.Mounts = t.mounts(c, 0)
	if f, m, ok := t.routerMount(c); ok {
		p.folders, spec.Mounts = append(p.folders, f), append(spec.Mounts, m)
	}
	generated := t.generated(c, spec.Hostname)
	if g, ok := t.routerFile(c); ok {
		generated = append(generated, g)
	}
	for _, g := range generated {
		taken := func(m Mount) bool { return m.Destination == g.destination }
		if slices.ContainsFunc(spec.Mounts, taken) {
			continue // the user's own
		}
		p.files = append(p.files, g.file)
		spec.Mounts = append(spec.Mounts, Mount{Type: "bind", Source: g.path, Destination: g.destination,
			ReadOnly: deref(c.def.ReadonlyRootFilesystem)})
	}
	p.spec = spec
	return p
}

// labels are the user's and those by which ECS marks containers.
func (t *task) labels(c *container) map[string]string {
	labels := map[string]string{}
	maps.Copy(labels, c.def.DockerLabels)
	labels["com.amazonaws.ecs.cluster"] = t.as.Task.Cluster
	labels["com.amazonaws.ecs.container-name"] = c.name()
	labels["com.amazonaws.ecs.task-arn"] = t.as.Task.ARN
	labels["com.amazonaws.ecs.task-definition-family"] = t.as.Task.Family
	labels["com.amazonaws.ecs.task-definition-version"] = strconv.Itoa(t.as.Task.Revision)
	return labels
}

// maxVolumesFrom bounds chains of volumesFrom, which may run in circles.
const maxVolumesFrom = 10

// mounts are the container's volumes and those that it takes from others, outer paths first.
func (t *task) mounts(c *container, depth int) ([]folder, []Mount) {
	var folders []folder
	var mounts []Mount
	for _, m := range c.def.MountPoints {
		f := t.volume(deref(m.SourceVolume))
		if f.nfs != nil {
			mounts = append(mounts, Mount{Type: "nfs", Source: f.nfs.source, Port: f.nfs.port, Destination: filepath.Clean(deref(m.ContainerPath)),
				ReadOnly: deref(m.ReadOnly)})
			continue
		}
		folders = append(folders, f)
		mounts = append(mounts, Mount{
			Type: "bind", Source: f.path, Destination: filepath.Clean(deref(m.ContainerPath)), ReadOnly: deref(m.ReadOnly), TaskScoped: f.scoped,
		})
	}
	for _, from := range c.def.VolumesFrom {
		source := t.byName(deref(from.SourceContainer))
		if source == nil || depth == maxVolumesFrom {
			continue
		}
		theirs, taken := t.mounts(source, depth+1)
		folders = append(folders, theirs...)
		for _, m := range taken {
			m.ReadOnly = m.ReadOnly || deref(from.ReadOnly)
			if !slices.ContainsFunc(mounts, func(own Mount) bool { return own.Destination == m.Destination }) {
				mounts = append(mounts, m)
			}
		}
	}
	slices.SortStableFunc(mounts, func(a, b Mount) int { return len(a.Destination) - len(b.Destination) })
	return folders, mounts
}

// volume is the folder of a volume of the task definition.
func (t *task) volume(name string) folder {
	i := slices.IndexFunc(t.def.Volumes, func(v types.Volume) bool { return deref(v.Name) == name })
	own := folder{path: filepath.Join(t.dir, "volumes", name), mode: 0o777, scoped: true} // any user of the image may write, as in an emptyDir
	if i < 0 {
		return own
	}
	v := t.def.Volumes[i]
	if v.Host != nil && deref(v.Host.SourcePath) != "" {
		return folder{path: *v.Host.SourcePath, mode: 0o755}
	}
	if e := v.EfsVolumeConfiguration; e != nil {
		at, err := t.agent.efsOf(name, e)
		switch {
		case err != nil: // it is not known any more
			return folder{path: filepath.Join(t.dir, "no-volume"), must: err.Message}
		case at.dir == "":
			return folder{nfs: &at}
		}
		return folder{path: at.dir, must: fmt.Sprintf("volume %s is the directory %s on this machine, which is not there", name, at.dir)}
	}
	if d := v.DockerVolumeConfiguration; d != nil && d.Scope == types.ScopeShared {
		own.path, own.scoped = filepath.Join(t.agent.cfg.VolumeDir, name), false
		if !deref(d.Autoprovision) {
			own.must = fmt.Sprintf("the shared volume %s does not exist and autoprovision is false; make the folder %s or set autoprovision",
				name, own.path)
		}
	}
	return own
}
