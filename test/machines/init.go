package machines

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// selfName is argv[0] of the processes that this package starts from the program that uses it.
const selfName = "berth-machine"

// guardVar marks those processes' environment: a program that forgot Init must not start itself for ever.
const guardVar = "BERTH_MACHINE_INIT"

// Init must be the first call of main or TestMain. In the program itself it returns at once; in the first process of a machine or of a
// switch, which are the same program, it never does.
func Init() {
	if os.Args[0] != selfName {
		return
	}
	switch os.Args[1] {
	case "switch":
		report(nil)
		hold(nil)
	case "machine":
		err := boot(os.Args[2])
		fmt.Fprintln(os.Stderr, "machine:", err)
	}
	os.Exit(1)
}

// Descriptors of a first process: lifeline ends when the program that made it does, and outcome takes one line, "ok" or what failed.
const lifeline, outcome = 3, 4

func report(err error) {
	f := os.NewFile(outcome, "outcome")
	if err != nil {
		fmt.Fprintln(f, err)
	} else {
		fmt.Fprintln(f, "ok")
	}
	f.Close()
}

// hold reads the lifeline to its end: each byte is told to on. When it ends, so does the process; after the byte 'k' it is kept.
func hold(on chan<- byte) {
	f := os.NewFile(lifeline, "lifeline")
	b := make([]byte, 1)
	keep := false
	for {
		if n, err := f.Read(b); err != nil || n == 0 {
			break
		}
		if keep = keep || b[0] == 'k'; on != nil && b[0] == 'g' {
			on <- b[0]
		}
	}
	if !keep {
		os.Exit(0) // in a machine: and with its first process everything else ends
	}
	for {
		time.Sleep(time.Hour)
	}
}

// plan is what a machine's first process reads when it starts, and again at SIGHUP.
type plan struct {
	Hostname string
	BootID   string
	ID       string   // machine-id
	Env      []string // of services and commands
	Services []Service
}

func readPlan(dir string) (p plan, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "plan.json"))
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(data, &p)
}

// boot is the first process of a machine: it mounts what a machine has of its own, waits for the network, and keeps services.
func boot(dir string) error {
	events := make(chan os.Signal, 64)
	signal.Notify(events, unix.SIGCHLD, unix.SIGHUP, unix.SIGTERM)
	p, err := readPlan(dir)
	if err == nil {
		err = furnish(dir, p)
	}
	report(err)
	if err != nil {
		return err
	}
	wired := make(chan byte, 1)
	go hold(wired)
	<-wired
	k := &keeper{dir: dir, running: map[string]int{}, retry: make(chan struct{}, 1)}
	k.start(false)
	for {
		select {
		case s := <-events:
			switch s {
			case unix.SIGCHLD:
				k.reap()
			case unix.SIGHUP:
				k.start(false)
			case unix.SIGTERM:
				k.stop()
			}
		case <-k.retry:
			k.start(true)
		}
	}
}

// furnish gives the machine its own /proc, /run, names and boot. The rest is the real machine's.
func furnish(dir string, p plan) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	resolv, errResolv := os.ReadFile("/etc/resolv.conf")
	for _, m := range [][3]string{{"proc", "/proc", ""}, {"tmpfs", "/run", "mode=755"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, m[2]); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	if err := unix.Sethostname([]byte(p.Hostname)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "boot_id"), []byte(p.BootID+"\n"), 0o444); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "machine-id"), []byte(p.ID+"\n"), 0o444); err != nil {
		return err
	}
	for from, to := range map[string]string{"boot_id": "/proc/sys/kernel/random/boot_id", "machine-id": "/etc/machine-id", "../hosts": "/etc/hosts"} {
		if _, err := os.Stat(to); err != nil {
			continue
		}
		if err := unix.Mount(filepath.Join(dir, from), to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", to, err)
		}
	}
	if at, err := os.Readlink("/etc/resolv.conf"); errResolv == nil && err == nil { // it leads into /run, which is new
		if !filepath.IsAbs(at) {
			at = filepath.Join("/etc", at)
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		return os.WriteFile(at, resolv, 0o644)
	}
	return nil
}

// keeper starts the services of the plan, as a service manager does.
type keeper struct {
	dir      string
	running  map[string]int // pid by name
	retry    chan struct{}  // asks for start
	stopping bool
}

// start starts each service of the plan that does not run; with again, only those that are to be restarted.
func (k *keeper) start(again bool) {
	p, err := readPlan(k.dir)
	if err != nil || k.stopping {
		return
	}
	for _, s := range p.Services {
		if k.running[s.Name] != 0 || again && !s.Restart {
			continue
		}
		pid, err := k.spawn(s, p.Env)
		if err != nil {
			fmt.Fprintf(os.Stderr, "machine %s: start %s: %v\n", p.Hostname, s.Name, err)
			continue
		}
		k.running[s.Name] = pid
	}
}

func (k *keeper) spawn(s Service, env []string) (int, error) {
	log, err := os.OpenFile(filepath.Join(k.dir, s.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	p, err := os.StartProcess(s.Args[0], s.Args, &os.ProcAttr{Dir: "/", Env: append(env, s.Env...), Files: []*os.File{null, log, log},
		Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return 0, err
	}
	defer p.Release()
	return p.Pid, nil
}

// reap takes notice of what has ended, services and orphans.
func (k *keeper) reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			break
		}
		for name, running := range k.running {
			if running == pid {
				delete(k.running, name)
				k.ended(name)
			}
		}
	}
	if k.stopping && len(k.running) == 0 {
		os.Exit(0)
	}
}

func (k *keeper) ended(name string) {
	p, err := readPlan(k.dir)
	if err != nil {
		return
	}
	for _, s := range p.Services {
		if s.Name == name && s.Restart {
			time.AfterFunc(restartPause, func() {
				select {
				case k.retry <- struct{}{}:
				default:
				}
			})
		}
	}
}

// restartPause is how long a service that ended stays away, as with systemd's RestartSec.
const restartPause = 300 * time.Millisecond

// stop ends the services by SIGTERM, and the machine after them, or after stopLimit.
func (k *keeper) stop() {
	k.stopping = true
	for _, pid := range k.running {
		_ = unix.Kill(pid, unix.SIGTERM) // it may have ended
	}
	if len(k.running) == 0 {
		os.Exit(0)
	}
	time.AfterFunc(stopLimit, func() { os.Exit(0) })
}

const stopLimit = 20 * time.Second
