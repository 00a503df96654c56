package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// record names a containerd process so that no other process is mistaken for it after its pid was reused.
type record struct {
	PID         int    `json:"pid"`
	Started     uint64 `json:"started"` // clock ticks after boot
	Fingerprint string `json:"fingerprint"`
}

func recordFile(c Config) string { return filepath.Join(c.State, "process.json") }

func (r record) save(c Config) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(recordFile(c), data)
}

// load returns the record of a containerd that is alive, or false.
func load(c Config) (record, bool) {
	data, err := os.ReadFile(recordFile(c))
	if err != nil {
		return record{}, false
	}
	var r record
	if json.Unmarshal(data, &r) != nil || r.PID <= 1 {
		return record{}, false
	}
	return r, r.alive()
}

func (r record) alive() bool {
	now, err := inspect(r.PID)
	return err == nil && now.Started == r.Started
}

// inspect reads a process's start time. A zombie counts as gone.
func inspect(pid int) (record, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return record{}, err
	}
	// The second field, the command in parentheses, may hold anything.
	_, rest, ok := strings.Cut(string(data[max(0, strings.LastIndexByte(string(data), ')')):]), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return record{}, errors.New("the process has ended")
	}
	started, err := strconv.ParseUint(fields[19], 10, 64)
	return record{PID: pid, Started: started}, err
}

func (r record) signal(sig unix.Signal) {
	if fd, err := unix.PidfdOpen(r.PID, 0); err == nil {
		defer unix.Close(fd)
		if r.alive() { // fd and record name the same process, whatever happens from here on
			_ = unix.PidfdSendSignal(fd, sig, nil, 0)
		}
		return
	}
	if r.alive() {
		_ = unix.Kill(r.PID, sig)
	}
}

// wait returns when the process has ended, or with ctx's error.
func (r record) wait(ctx context.Context) error {
	fd, err := unix.PidfdOpen(r.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return r.waitByPolling(ctx)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	conn, err := f.SyscallConn()
	if err != nil {
		return r.waitByPolling(ctx)
	}
	err = conn.Read(func(uintptr) bool { return !r.alive() })
	if err != nil && ctx.Err() == nil {
		return r.waitByPolling(ctx)
	}
	return ctx.Err()
}

func (r record) waitByPolling(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for r.alive() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
