package machines

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is one machine of a lab. It is made off.
type Machine struct {
	Name    string
	Address netip.Addr
	Index   int     // from 1, in the order of Add
	ID      string  // its machine-id
	First   Process // zero while it is off
	Size    string  // of its disk, "" when that has no bound of its own

	Services []Service
	lab      *Lab
}

// Service is a program that the machine starts when it gets power.
type Service struct {
	Name    string   // of its log, <name>.log in the machine's folder
	Args    []string // [0] is a path
	Env     []string
	Restart bool // it is started again when it ends
}

// Add makes a machine that is off. size bounds its disk, as tmpfs's option does, such as "2g"; "" leaves it unbounded.
func (l *Lab) Add(name, size string) (*Machine, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.state.Machines) + 1
	if n > 250 || len(name) > 8 || name == "" {
		return nil, fmt.Errorf("machine %q: a lab holds 250 machines with names of 1 to 8 letters", name)
	}
	raw := Subnet.Addr().As4()
	raw[3] = byte(n)
	m := &Machine{Name: name, Address: netip.AddrFrom4(raw), Index: n, ID: randomHex(16), Size: size, lab: l}
	if err := os.MkdirAll(m.Disk(), 0o700); err != nil {
		return nil, err
	}
	if size != "" {
		if err := unix.Mount("berth-machine", m.Disk(), "tmpfs", 0, "mode=0700,size="+size); err != nil {
			return nil, fmt.Errorf("the disk of %s: %w", name, err)
		}
	}
	l.state.Machines = append(l.state.Machines, m)
	return m, errors.Join(l.save(), l.writeHosts())
}

func unmountDisk(m *Machine) error {
	if m.Size == "" {
		return nil
	}
	if err := unix.Unmount(m.Disk(), unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("unmount the disk of %s: %w", m.Name, err)
	}
	return nil
}

// Folder holds the machine's disk and the logs of its services.
func (m *Machine) Folder() string { return filepath.Join(m.lab.Dir, m.Name) }

// Disk is Berth's data directory on the machine: the same path on it and outside.
func (m *Machine) Disk() string { return filepath.Join(m.Folder(), "disk") }

// Log returns the end of what a service wrote, at most n bytes.
func (m *Machine) Log(service string, n int) string {
	data, _ := os.ReadFile(filepath.Join(m.Folder(), service+".log"))
	return string(data[max(0, len(data)-n):])
}

// environ is what everything on the machine has.
func (m *Machine) environ() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "BERTH_DATA_DIR=" + m.Disk()}
	return append(env, m.lab.state.Env...)
}

// Running tells whether the machine has power.
func (m *Machine) Running() bool {
	_, err := m.first()
	return err == nil
}

func (m *Machine) first() (Process, error) {
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	if !m.First.alive() {
		return Process{}, fmt.Errorf("machine %s is off", m.Name)
	}
	return m.First, nil
}

// Install adds a service, or changes the one of its name, and starts it when the machine runs and it does not.
func (m *Machine) Install(s Service) error {
	m.lab.mu.Lock()
	m.Services = append(slices.DeleteFunc(m.Services, func(old Service) bool { return old.Name == s.Name }), s)
	err := m.lab.save()
	m.lab.mu.Unlock()
	return errors.Join(err, m.StartServices())
}

// Remove forgets a service; when it runs it goes on until it ends.
func (m *Machine) Remove(name string) error {
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	m.Services = slices.DeleteFunc(m.Services, func(s Service) bool { return s.Name == name })
	return errors.Join(m.lab.save(), m.writePlan(""))
}

// StartServices starts the services that do not run. It does nothing while the machine is off.
func (m *Machine) StartServices() error {
	m.lab.mu.Lock()
	err := m.writePlan("")
	m.lab.mu.Unlock()
	if err != nil {
		return err
	}
	first, err := m.first()
	if err != nil {
		return nil
	}
	return first.Signal(unix.SIGHUP)
}

// writePlan writes what the first process reads; lab.mu is held.
func (m *Machine) writePlan(boot string) error {
	p := plan{Hostname: m.Name, BootID: boot, ID: m.ID, Env: m.environ(), Services: m.Services}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	file := filepath.Join(m.Folder(), "plan.json")
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// On gives the machine power: a new boot of the same disk, under the same name and address. Its services start. A machine that runs is
// left alone.
func (m *Machine) On() error {
	if m.Running() {
		return nil
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		return err
	}
	m.lab.mu.Lock()
	err = m.writePlan(strings.TrimSpace(string(boot)))
	m.lab.mu.Unlock()
	if err != nil {
		return err
	}
	first, line, err := m.lab.launch(filepath.Join(m.Folder(), "console"), unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWUTS|unix.CLONE_NEWNET,
		"machine", m.Folder())
	if err != nil {
		return fmt.Errorf("machine %s: %w", m.Name, err)
	}
	m.lab.mu.Lock()
	m.First = first
	err = errors.Join(m.lab.wire(m), m.lab.save())
	m.lab.mu.Unlock()
	if err == nil {
		_, err = line.WriteString("g")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("machine %s: %w", m.Name, err), m.Off())
	}
	return nil
}

// launch starts the first process of a machine or a switch and waits until it is ready.
func (l *Lab) launch(console string, namespaces uintptr, args ...string) (p Process, line *os.File, err error) {
	log, err := os.OpenFile(console, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return p, nil, err
	}
	defer log.Close()
	its, line, err := os.Pipe()
	if err != nil {
		return p, nil, err
	}
	defer its.Close()
	said, says, err := os.Pipe()
	if err != nil {
		return p, nil, errors.Join(err, line.Close())
	}
	defer said.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{selfName}, args...)
	cmd.Env = append(os.Environ(), guardVar+"=1")
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = "/", log, log, []*os.File{its, says}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Setsid: true}
	err = cmd.Start()
	says.Close()
	if err != nil {
		return p, nil, errors.Join(err, line.Close())
	}
	p, _, ok := look(cmd.Process.Pid)
	answer, errAnswer := bufio.NewReader(said).ReadString('\n')
	if answer != "ok\n" || !ok {
		line.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return p, nil, fmt.Errorf("its first process: %q %w", answer, errAnswer)
	}
	if l.state.Keep {
		if _, err := line.WriteString("k"); err != nil {
			return p, nil, err
		}
	}
	l.mu.Lock()
	l.own[p.PID], l.lines[p.PID] = cmd.Process, line
	l.mu.Unlock()
	return p, line, nil
}

// end kills a first process and waits until it, and so everything with it, is gone.
func (l *Lab) end(p Process) error {
	if p.PID == 0 {
		return nil
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		return err
	}
	l.mu.Lock()
	own, line := l.own[p.PID], l.lines[p.PID]
	delete(l.own, p.PID)
	delete(l.lines, p.PID)
	l.mu.Unlock()
	if own != nil {
		_, err := own.Wait()
		return errors.Join(err, line.Close())
	}
	for deadline := time.Now().Add(20 * time.Second); p.alive(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not end", p.PID)
		}
	}
	return nil
}

// Off is a power cut: everything on the machine ends at once, and what is on its disk stays. A machine that is off is left alone.
func (m *Machine) Off() error {
	m.lab.mu.Lock()
	first := m.First
	m.lab.mu.Unlock()
	if err := m.lab.end(first); err != nil {
		return fmt.Errorf("cut the power of %s: %w", m.Name, err)
	}
	m.lab.mu.Lock()
	m.First = Process{}
	err := m.lab.save()
	m.lab.mu.Unlock()
	return errors.Join(err, m.removeCgroups())
}

// Shutdown ends the machine as an operator does: services get SIGTERM and 20 s, containers end with the machine.
func (m *Machine) Shutdown() error {
	first, err := m.first()
	if err != nil {
		return nil
	}
	if err := first.Signal(unix.SIGTERM); err != nil {
		return err
	}
	for deadline := time.Now().Add(stopLimit + 5*time.Second); first.alive() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	return m.Off()
}

// Instance is the id of the Berth on the machine's disk, "" when none ever ran.
func (m *Machine) Instance() string {
	data, err := os.ReadFile(filepath.Join(m.Disk(), "instance.json"))
	var in struct{ ID string }
	if err != nil || json.Unmarshal(data, &in) != nil {
		return ""
	}
	return in.ID
}

// removeCgroups removes those of the machine's Berth: a power cut leaves none.
func (m *Machine) removeCgroups() error {
	id := m.Instance()
	if id == "" {
		return nil
	}
	var groups []string
	for _, pattern := range []string{"/sys/fs/cgroup/*/berth-" + id + "*", "/sys/fs/cgroup/berth-" + id + "*"} {
		found, _ := filepath.Glob(pattern)
		for _, root := range found {
			_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error { // what is gone is no matter
				if err == nil && d.IsDir() {
					groups = append(groups, path)
				}
				return nil
			})
		}
	}
	slices.Reverse(groups) // the lower ones first
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		groups = slices.DeleteFunc(groups, func(g string) bool {
			err := os.Remove(g)
			return err == nil || errors.Is(err, fs.ErrNotExist)
		})
		if len(groups) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("machine %s: cgroups that cannot be removed: %v", m.Name, groups)
		}
	}
}
