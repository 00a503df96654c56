package fake

import (
	"strconv"
	"strings"
	"time"
)

// Script is how containers of an image behave. The zero Script runs until it is signalled and then exits 0.
type Script struct {
	PullFor   time.Duration // how long a pull takes
	PullError string        // sentence of the CannotPullContainerError
	// CreateError and StartError are sentences of a CannotCreateContainerError and a CannotStartContainerError.
	CreateError, StartError string

	Ends     bool          // the process ends by itself
	RunFor   time.Duration // when it ends, after its start
	ExitCode int32         // with which it ends
	OOM      bool          // killed for its memory: exit code 137

	IgnoreTerm bool          // only SIGKILL ends it
	TermFor    time.Duration // how long it takes to end after a stop signal
	TermCode   int32         // exit code after a stop signal

	Unhealthy bool     // probes fail
	Output    []string // lines written at the start
}

// ScriptOf reads a script from an image's reference, by the part after the last "/":
//
//	exit:<code>    ends at once with the code
//	job:<seconds>  ends with 0 after that time
//	crash          ends with 1 after 100 ms
//	oom            is killed for its memory
//	missing        cannot be pulled
//	broken         cannot be started
//	slow-start     takes 2 s to pull
//	slow-stop      takes 2 s to end
//	stubborn       ends by SIGKILL only
//	unhealthy      fails its health checks
//
// Every other image runs until it is stopped. A command of "exit <code>" or of a shell that runs just that beats the image.
func ScriptOf(ref string, command []string) Script {
	s := scriptOfImage(ref)
	if code, ok := exitOf(command); ok {
		s.Ends, s.ExitCode = true, int32(code)
	}
	return s
}

func scriptOfImage(ref string) Script {
	name, arg, _ := strings.Cut(ref[strings.LastIndexByte(ref, '/')+1:], ":")
	n, err := strconv.Atoi(arg)
	switch name {
	case "exit":
		if err == nil && n >= 0 && n < 256 {
			return Script{Ends: true, ExitCode: int32(n)}
		}
	case "job":
		if err == nil && n >= 0 {
			return Script{Ends: true, RunFor: time.Duration(n) * time.Second}
		}
	case "crash":
		return Script{Ends: true, RunFor: 100 * time.Millisecond, ExitCode: 1, Output: []string{"panic: it crashed"}}
	case "oom":
		return Script{Ends: true, RunFor: 100 * time.Millisecond, OOM: true}
	case "missing":
		return Script{PullError: "pull image manifest has been retried 1 time(s): failed to resolve ref " + ref + ": not found"}
	case "broken":
		return Script{StartError: `exec: "/no/such/program": stat /no/such/program: no such file or directory`}
	case "slow-start":
		return Script{PullFor: 2 * time.Second}
	case "slow-stop":
		return Script{TermFor: 2 * time.Second}
	case "stubborn":
		return Script{IgnoreTerm: true}
	case "unhealthy":
		return Script{Unhealthy: true}
	}
	return Script{}
}

// exitOf reads the commands ["exit", "3"], ["true"], ["false"] and [<shell>, "-c", "exit 3"].
func exitOf(command []string) (int, bool) {
	if len(command) == 3 && strings.HasSuffix(command[0], "sh") && command[1] == "-c" {
		command = strings.Fields(command[2])
	}
	switch {
	case len(command) == 1 && command[0] == "true":
		return 0, true
	case len(command) == 1 && command[0] == "false":
		return 1, true
	case len(command) >= 2 && command[len(command)-2] == "exit":
		code, err := strconv.Atoi(command[len(command)-1])
		return code & 255, err == nil
	}
	return 0, false
}
