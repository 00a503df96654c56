//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// runInit runs args (after an optional "--") as a child, passes every signal on to it, reaps whatever else ends, and returns the
// child's exit code: 128 and the signal's number when a signal ended it, 127 when it could not be found, 126 when it could not
// be run.
func runInit(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "docker-init: no command")
		return 127
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals) // before the child starts, so that its end is not missed
	path, err := exec.LookPath(args[0])
	if err != nil {
		fmt.Fprintf(os.Stderr, "docker-init: %v\n", err)
		if errors.Is(err, os.ErrPermission) {
			return 126
		}
		return 127
	}
	child, err := syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		fmt.Fprintf(os.Stderr, "docker-init: run %s: %v\n", path, err)
		return 126
	}
	for s := range signals {
		sig := s.(syscall.Signal)
		switch sig {
		case syscall.SIGCHLD:
			if code, ended := reap(child); ended {
				return code
			}
		case syscall.SIGURG: // the Go runtime's own
		default:
			_ = syscall.Kill(child, sig)
		}
	}
	return 0
}

// reap collects every process that has ended and says whether child was among them.
func reap(child int) (code int, ended bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return code, ended
		}
		if pid != child || !status.Exited() && !status.Signaled() {
			continue
		}
		ended, code = true, status.ExitStatus()
		if status.Signaled() {
			code = 128 + int(status.Signal())
		}
	}
}
