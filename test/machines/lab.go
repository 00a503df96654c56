// Package machines makes several machines of one, for tests and demonstrations of a fleet. A machine is a set of namespaces (network,
// mounts, processes, host name) on a switch that the others are on, with a disk that outlives it; `kill -9` of its first process is a
// power cut, which takes everything on it along. Cuts between machines are made in the switch. It needs root.
//
// The first processes of machines and switches are the program that uses this package: it calls Init first thing in main or TestMain.
// They end when that program does, however it ends, unless the lab is kept; New removes what such an end left of disks and cgroups.
package machines

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Subnet is the network of every lab; Gateway is this machine's address in it, when it has an uplink.
var (
	Subnet  = netip.MustParsePrefix("10.77.0.0/24")
	Gateway = netip.MustParseAddr("10.77.0.254")
)

// Config is what a lab is told.
type Config struct {
	Dir    string   // where its disks are; "" makes one that Close removes
	Uplink bool     // this machine is on the switch too, at Gateway, and is the machines' default route; one lab at a time
	Keep   bool     // the machines outlive this program; Open finds them again
	Env    []string // of everything on the machines, besides PATH, HOME and BERTH_DATA_DIR
}

// Lab is a switch and its machines.
type Lab struct {
	Dir string

	mu     sync.Mutex
	state  state
	lock   *os.File
	own    map[int]*os.Process // first processes that this program started and has to wait for
	lines  map[int]*os.File    // their lifelines
	closed bool
}

// state is what lab.json says.
type state struct {
	Config
	ID       string
	Switch   Process
	Machines []*Machine
	Drops    [][2]string // cuts: from, to
}

const labPrefix = "berth-machines-"

// New makes a switch without machines, and removes what killed programs left of theirs.
func New(c Config) (*Lab, error) {
	if os.Getenv(guardVar) != "" {
		return nil, errors.New("machines: this program does not call machines.Init first thing in main or TestMain")
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("machines: namespaces, bridges and mounts need root")
	}
	if err := Sweep(); err != nil {
		return nil, err
	}
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", labPrefix)
		if err != nil {
			return nil, err
		}
		c.Dir = dir
	}
	if err := os.MkdirAll(c.Dir, 0o711); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "lab.json")); err == nil {
		return nil, fmt.Errorf("%s holds machines already", c.Dir)
	}
	l := &Lab{Dir: c.Dir, state: state{Config: c, ID: randomHex(3)}, own: map[int]*os.Process{}, lines: map[int]*os.File{}}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, err
	}
	l.lock = lock
	if err := errors.Join(l.save(), l.writeHosts()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if err := l.makeSwitch(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Open finds the lab that a program left in dir with Keep.
func Open(dir string) (*Lab, error) {
	l := &Lab{Dir: dir, own: map[int]*os.Process{}, lines: map[int]*os.File{}}
	data, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there are no machines in %s", dir)
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &l.state); err != nil {
		return nil, fmt.Errorf("%s/lab.json: %w", dir, err)
	}
	for _, m := range l.state.Machines {
		m.lab = l
	}
	l.lock, err = lockDir(dir)
	return l, err
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lab.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another program uses the machines in %s", dir), f.Close())
	}
	return f, nil
}

// save writes lab.json; l.mu is held, or nobody else knows l.
func (l *Lab) save() error {
	data, err := json.MarshalIndent(l.state, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(l.Dir, "lab.json")
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// writeHosts writes the machines' /etc/hosts, in place, as it is mounted.
func (l *Lab) writeHosts() error {
	text := "127.0.0.1 localhost\n::1 localhost\n"
	for _, m := range l.state.Machines {
		text += fmt.Sprintf("%s %s\n", m.Address, m.Name)
	}
	return os.WriteFile(filepath.Join(l.Dir, "hosts"), []byte(text), 0o644)
}

// Machines returns them in the order in which they were added.
func (l *Lab) Machines() []*Machine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Machine(nil), l.state.Machines...)
}

// Machine returns the one with that name.
func (l *Lab) Machine(name string) (*Machine, error) {
	for _, m := range l.Machines() {
		if m.Name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("there is no machine %q", name)
}

// Close cuts all power and removes everything, disks too.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	var errs []error
	for _, m := range l.Machines() {
		errs = append(errs, m.Off())
	}
	errs = append(errs, l.end(l.state.Switch))
	for _, m := range l.state.Machines {
		errs = append(errs, unmountDisk(m))
	}
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, l.lock.Close()) // what is left is found by what lab.json says
	}
	return errors.Join(os.RemoveAll(l.Dir), l.lock.Close())
}

// Leave ends this program's hold on the lab; with Keep the machines go on.
func (l *Lab) Leave() error {
	if !l.state.Keep {
		return l.Close()
	}
	return l.lock.Close()
}

// Sweep removes the labs of programs that were killed. Their processes ended with them; disks and cgroups did not.
func Sweep() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), labPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		l, err := Open(dir)
		if err != nil || l.state.Keep {
			if err == nil {
				err = l.lock.Close()
			} else if l == nil || l.lock == nil { // in use, or being made
				err = nil
			}
			errs = append(errs, err)
			continue
		}
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

func randomHex(n int) string {
	f, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		return strings.Repeat("0", 2*n)
	}
	return strings.ReplaceAll(string(f), "-", "")[:2*n]
}
