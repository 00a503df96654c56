package machines

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is a process by its number and the time of its start, which no later process with its number has.
type Process struct {
	PID   int
	Start uint64 // in clock ticks since the boot
	Line  string // its command line, with spaces
}

// look reads a process; ok is false when there is none, or it has ended and waits for its parent.
func look(pid int) (p Process, parent int, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	end := bytes.LastIndexByte(data, ')')
	if err != nil || end < 0 {
		return p, 0, false
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return p, 0, false
	}
	parent, _ = strconv.Atoi(fields[1])
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return Process{PID: pid, Start: start}, parent, err == nil
}

// alive tells whether it is that process still.
func (p Process) alive() bool {
	now, _, ok := look(p.PID)
	return p.PID != 0 && ok && now.Start == p.Start
}

// Signal sends a signal, and nothing when the process has ended.
func (p Process) Signal(s unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !p.alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal %v to process %d: %w", s, p.PID, err)
	}
	return nil
}

// Processes returns the processes of the machine whose command line has all words, its first process left out.
func (m *Machine) Processes(words ...string) (all []Process) {
	first, err := m.first()
	if err != nil {
		return nil
	}
	return below(first, words)
}

// below returns the processes in the process namespace of first and those that descend from it.
func below(first Process, words []string) (all []Process) {
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", first.PID))
	if err != nil {
		return nil
	}
	entries, _ := os.ReadDir("/proc")
	parents, found := map[int]int{}, map[int]Process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == first.PID {
			continue
		}
		if p, parent, ok := look(pid); ok {
			parents[pid], found[pid] = parent, p
		}
	}
	inside := map[int]bool{first.PID: true}
	for pid := range found {
		at, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		inside[pid] = at == space
	}
	for pid, p := range found {
		up := pid
		for up > 1 && !inside[up] {
			up = parents[up]
		}
		if up <= 1 {
			continue
		}
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		p.Line = strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		if hasAll(p.Line, words) {
			all = append(all, p)
		}
	}
	return all
}

func hasAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

// Signal sends a signal to the processes of the machine whose command line has all words, and returns how many they were.
func (m *Machine) Signal(s unix.Signal, words ...string) (int, error) {
	all := m.Processes(words...)
	for _, p := range all {
		if err := p.Signal(s); err != nil {
			return 0, err
		}
	}
	return len(all), nil
}
