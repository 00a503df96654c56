// Command fleet puts up three machines on one box, as namespaces on a switch, makes a Berth cluster of them, opens the example shop on it,
// and shows what happens when a machine dies. It needs root, bin/berth and the shop's programs (make fleet builds them).
//
//	fleet up             the machines, the cluster and the shop; what is there is left alone
//	fleet show           cuts the power of a machine while the shop is asked, and gives it back
//	fleet off|on NAME    a power cut; power again
//	fleet cut A B, heal  no packet passes between two machines; all pass again
//	fleet sh NAME [COMMAND…]   a shell on a machine, or a command
//	fleet down           everything goes, with its data
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/berthdev/berth/test/machines"
)

func main() {
	machines.Init()
	log.SetFlags(0)
	log.SetPrefix("fleet: ")
	dir := flag.String("dir", "/var/lib/berth-fleet", "where the machines' disks are")
	servers := flag.Int("servers", 1, "how many of the three machines are servers: 1 or 3")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: fleet [flags] up|show|off NAME|on NAME|cut A B|heal|sh NAME [COMMAND…]|down")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, *servers, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dir string, servers int, args []string) error {
	if len(args) == 0 {
		flag.Usage()
		return errors.New("say what to do")
	}
	root, err := checkout()
	if err != nil {
		return err
	}
	f := &fleet{root: root, bin: filepath.Join(root, "bin/berth"), servers: servers, out: os.Stdout}
	verb, args := args[0], args[1:]
	if verb == "up" {
		return f.up(ctx, dir)
	}
	if f.lab, err = machines.Open(dir); err != nil {
		return err
	}
	if verb == "down" {
		return f.lab.Close()
	}
	err = f.do(ctx, verb, args)
	return errors.Join(err, f.lab.Leave())
}

// checkout is the folder that bin/ is in: this program is bin/fleet.
func checkout() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	root := filepath.Dir(filepath.Dir(self))
	if _, err := os.Stat(filepath.Join(root, "bin/berth")); err != nil {
		return "", fmt.Errorf("%w; run: make fleet", err)
	}
	return root, nil
}

// do does what needs machines that are there.
func (f *fleet) do(ctx context.Context, verb string, args []string) error {
	want := map[string]int{"show": 0, "heal": 0, "off": 1, "on": 1, "sh": 1, "cut": 2}
	n, ok := want[verb]
	if !ok || len(args) < n {
		flag.Usage()
		return fmt.Errorf("cannot %s", verb)
	}
	var on []*machines.Machine
	for _, name := range args[:n] {
		m, err := f.lab.Machine(name)
		if err != nil {
			return err
		}
		on = append(on, m)
	}
	switch verb {
	case "show":
		return f.show(ctx)
	case "off":
		return on[0].Off()
	case "on":
		return on[0].On()
	case "cut":
		return f.lab.Cut(on[0], on[1])
	case "heal":
		return f.lab.Heal()
	}
	return f.shell(ctx, on[0], args[1:])
}

// shell runs a shell or a command on a machine, with what clients need in its environment.
func (f *fleet) shell(ctx context.Context, m *machines.Machine, args []string) error {
	if len(args) == 0 {
		args = []string{"/bin/sh", "-i"}
	}
	c := m.Command(ctx, args[0], args[1:]...)
	env, err := f.environ(ctx)
	if err != nil {
		log.Print(err)
	}
	c.Env = append(append(c.Env, env...), "TERM="+os.Getenv("TERM"), "PS1="+m.Name+"# ")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	return c.Run()
}
