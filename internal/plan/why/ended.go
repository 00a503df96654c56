package why

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// Explain says why the task is as it is now: one finding, with cause and cures.
func Explain(t Task, now time.Time) Finding {
	var f Finding
	if t.ending() {
		f = ended(&t)
		f.Since = later(t.StoppingAt, t.StoppedAt)
		if t.Status != model.Stopped && now.Sub(f.Since) > slowStop(&t) && !f.Since.IsZero() {
			f.Cures = append(f.Cures, Cure{Text: "It takes long to end: it ignores its stop signal until its stopTimeout is over.", Do: "logs"})
		}
	} else {
		f = hanging(&t, now)
	}
	return f
}

func later(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

// slowStop is how long a stop may take before it is worth a word.
func slowStop(t *Task) time.Duration {
	longest := 30
	for i := range t.Containers {
		longest = max(longest, t.Containers[i].StopTimeout)
	}
	return time.Duration(longest+5) * time.Second
}

// ended explains an end. The error that came first is the cause, wherever it stands: in the task's reason or in a container's.
func ended(t *Task) Finding {
	if f, ok := named(t, blamed(t), t.Reason); ok {
		if c := blamed(t); c != nil {
			f.Container = c.Name
		}
		return f
	}
	for i := range t.Containers {
		c := &t.Containers[i]
		if f, ok := named(t, c, c.Reason); ok {
			f.Container = c.Name
			return f
		}
	}
	if f, ok := asked(t); ok {
		return f
	}
	if c := guilty(t); c != nil {
		f := exited(t, c)
		f.Container = c.Name
		return f
	}
	if t.StopCode == types.TaskStopCodeTaskFailedToStart {
		return Finding{Name: string(t.StopCode), Level: Bad, Cause: or(t.Reason, "It did not start."), Cures: []Cure{logs(t, nil)}}
	}
	if t.StopCode == types.TaskStopCodeEssentialContainerExited {
		return Finding{Name: string(t.StopCode), Level: Warning, Cause: "An essential container ended, so the task did.", Cures: []Cure{logs(t, nil)}}
	}
	return Finding{Name: "Ended", Level: Fine, Cause: or(t.Reason, "It has ended.")}
}

// blamed is the container that the task's own reason is about: the only one, or the one whose reason has the same name.
func blamed(t *Task) *Container {
	if len(t.Containers) == 1 {
		return &t.Containers[0]
	}
	name, _, _ := strings.Cut(t.Reason, ": ")
	for i := range t.Containers {
		if own, _, ok := strings.Cut(t.Containers[i].Reason, ": "); ok && own == name {
			return &t.Containers[i]
		}
	}
	return nil
}

// named explains an error by the name that its text begins with.
func named(t *Task, c *Container, text string) (Finding, bool) {
	name, message, ok := strings.Cut(text, ": ")
	explain := errorNames[name]
	if !ok || explain == nil {
		return Finding{}, false
	}
	f := explain(t, c, message)
	f.Name, f.Level = name, Bad
	return f, true
}

// guilty is the container whose end ended the task: an essential one that failed, or the first that ended.
func guilty(t *Task) *Container {
	var first *Container
	for i := range t.Containers {
		c := &t.Containers[i]
		if c.ExitCode == nil || !c.Essential {
			continue
		}
		if *c.ExitCode != 0 && *c.ExitCode != 143 {
			return c
		}
		if first == nil {
			first = c
		}
	}
	return first
}

// exited explains an exit code.
func exited(t *Task, c *Container) Finding {
	code := *c.ExitCode
	f := Finding{Name: "Exit" + strconv.Itoa(int(code)), Level: Bad}
	said := ""
	if c.Last != "" {
		said = fmt.Sprintf(" Its last words: %q.", short(c.Last, 120))
	}
	switch code {
	case 0:
		f.Level = Fine
		f.Cause = c.Name + " finished its work and exited with 0."
		if t.Service != "" {
			f.Level = Warning
			f.Cures = []Cure{{Text: "A service's container must not end: run the program in the foreground, or run it as a task instead of a service.", Do: "revision"}}
		}
		return f
	case 126:
		f.Cause = c.Name + "'s command cannot be executed (exit 126): it is no program, or not executable." + said
		f.Cures = []Cure{{Text: "Make the file executable in the image (chmod +x), or correct command and entryPoint.", Do: "revision"}}
	case 127:
		f.Cause = c.Name + "'s command was not found in the image (exit 127)." + said
		f.Cures = []Cure{{Text: "Correct command or entryPoint, or install the program in the image.", Do: "revision"}}
	case 137:
		f.Cause = fmt.Sprintf("%s was killed by SIGKILL (exit 137): it did not end within its stopTimeout, or something killed it.", c.Name) + said
		f.Cures = []Cure{{Text: "Have the program end on SIGTERM, or give it a longer stopTimeout.", Do: "stopTimeout", Value: "60"}}
	case 134:
		f.Cause = c.Name + " aborted itself (SIGABRT, exit 134): an assertion or its runtime failed." + said
	case 139:
		f.Cause = c.Name + " crashed with a segmentation fault (SIGSEGV, exit 139)." + said
		f.Cures = []Cure{{Text: "Check that the image is built for this machine's architecture and libraries.", Do: "revision"}}
	case 143:
		f.Level = Fine
		f.Cause = c.Name + " ended on SIGTERM (exit 143), as it was asked to."
		return f
	default:
		if code > 128 && code < 160 {
			f.Cause = fmt.Sprintf("%s was ended by signal %d (exit %d).", c.Name, code-128, code) + said
		} else {
			f.Cause = fmt.Sprintf("%s exited with %d by its own decision.", c.Name, code) + said
		}
	}
	f.Cures = append(f.Cures, logs(t, c))
	return f
}

// logs is the cure of looking closer.
func logs(t *Task, c *Container) Cure {
	out := Cure{Text: "Read its last lines.", Do: "logs", Command: "berth logs " + short12(t.ID)}
	if c != nil {
		out.Text = "Read the last lines of " + c.Name + "."
	}
	return out
}

func short12(id string) string { return id[:min(12, len(id))] }

func short(s string, n int) string {
	s = strings.TrimSpace(s)
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// image is the image that an error is about.
func (t *Task) image(c *Container) string {
	if c != nil && c.Image != "" {
		return c.Image
	}
	for i := range t.Containers {
		if strings.HasPrefix(t.Containers[i].Reason, "CannotPullContainerError") || len(t.Containers) == 1 {
			return t.Containers[i].Image
		}
	}
	return "the image"
}
