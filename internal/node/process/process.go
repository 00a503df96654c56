//go:build linux

// Package process names processes so that no other process is mistaken for one after its pid was used again.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ID is a process of this boot of the machine.
type ID struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // clock ticks after boot
}

var errEnded = errors.New("the process has ended")

// Inspect returns the process that has a pid now. A zombie counts as gone.
func Inspect(pid int) (ID, error) {
	f, err := stat(pid)
	if err != nil {
		return ID{}, err
	}
	if f[0] == "Z" || f[0] == "X" {
		return ID{}, errEnded
	}
	return f.id(pid)
}

// fields are those of /proc/<pid>/stat from the third on: state, parent, …
type fields []string

func stat(pid int) (fields, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// The second field, the command in parentheses, may hold anything.
	_, rest, ok := strings.Cut(string(data[max(0, strings.LastIndexByte(string(data), ')')):]), ") ")
	f := fields(strings.Fields(rest))
	if !ok || len(f) < 50 {
		return nil, errEnded
	}
	return f, nil
}

func (f fields) id(pid int) (ID, error) {
	started, err := strconv.ParseUint(f[19], 10, 64)
	return ID{PID: pid, Started: started}, err
}

// Alive tells whether the process has not ended.
func (p ID) Alive() bool {
	now, err := Inspect(p.PID)
	return err == nil && now.Started == p.Started
}

// State is the letter that the kernel gives the process's state, D for one that waits in the kernel and can't be killed; "" when it
// is gone.
func (p ID) State() string {
	f, err := stat(p.PID)
	if err != nil {
		return ""
	}
	if now, err := f.id(p.PID); err != nil || now.Started != p.Started {
		return ""
	}
	return f[0]
}

// ExitCode returns the code of a process that has ended and that its parent has not looked at yet: 128 and the signal's number
// when a signal ended it. Only root may ask.
func (p ID) ExitCode() (code int32, known bool) {
	f, err := stat(p.PID)
	if err != nil || f[0] != "Z" {
		return 0, false
	}
	if now, err := f.id(p.PID); err != nil || now.Started != p.Started {
		return 0, false
	}
	n, err := strconv.ParseUint(f[49], 10, 32)
	if err != nil {
		return 0, false
	}
	if status := unix.WaitStatus(n); status.Signaled() {
		return 128 + int32(status.Signal()), true
	} else {
		return int32(status.ExitStatus()), true
	}
}

// Signal sends sig, unless the process has ended.
func (p ID) Signal(sig unix.Signal) {
	if fd, err := unix.PidfdOpen(p.PID, 0); err == nil {
		defer unix.Close(fd)
		if p.Alive() { // fd and p name the same process, whatever happens from here on
			_ = unix.PidfdSendSignal(fd, sig, nil, 0)
		}
		return
	}
	if p.Alive() {
		_ = unix.Kill(p.PID, sig)
	}
}

// Wait returns when the process has ended, or with ctx's error.
func (p ID) Wait(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return p.poll(ctx)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	conn, err := f.SyscallConn()
	if err != nil {
		return p.poll(ctx)
	}
	err = conn.Read(func(uintptr) bool { return !p.Alive() })
	if err != nil && ctx.Err() == nil {
		return p.poll(ctx)
	}
	return ctx.Err()
}

func (p ID) poll(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for p.Alive() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Named returns the processes whose command line fits.
func Named(fits func(args []string) bool) []ID {
	var found []ID
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		cmdline, err := os.ReadFile(name + "/cmdline")
		if err != nil || !fits(strings.Split(string(cmdline), "\x00")) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(name))
		if id, err := Inspect(pid); err == nil {
			found = append(found, id)
		}
	}
	return found
}
