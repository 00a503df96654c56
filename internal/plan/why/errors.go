package why

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// errorNames explain the errors that name themselves, by name: those of the node's agent, of ECS's own model, and of the kernel's.
var errorNames = map[string]func(t *Task, c *Container, message string) Finding{
	"CannotPullContainerError":    cannotPull,
	"CannotCreateContainerError":  cannotCreate,
	"CannotStartContainerError":   cannotStart,
	"CannotStopContainerError":    cannotStop,
	"CannotInspectContainerError": vanished,
	"ContainerNetworkingError":    networking,
	"ResourceInitializationError": resources,
	"TaskDependencyError":         dependency,
	"OutOfMemoryError":            outOfMemory,
}

func cannotPull(t *Task, c *Container, m string) Finding {
	image := t.image(c)
	retry := Cure{Text: "Start it again once that is mended.", Do: "image"}
	fix := Cure{Text: "Correct the image's name or tag and deploy again.", Do: "image", Value: image}
	switch {
	case has(m, "no variant for this machine's platform", "no match for platform"):
		return Finding{Cause: "The image " + image + " is not built for this machine's processor.",
			Cures: []Cure{{Text: "Build it for this platform and push it again.", Command: "berth build -t " + image + " ."}}}
	case has(m, "Berth's registry has no such image"):
		return Finding{Cause: "Berth's registry has no image " + image + ".",
			Cures: []Cure{fix, {Text: "Or push it.", Command: "berth build -t " + image + " ."}}}
	case has(m, "refuses access", "unauthorized", "denied", "403 Forbidden", "401 Unauthorized"):
		return Finding{Cause: "The registry refuses access to " + image + ": it is private, or does not exist.",
			Cures: []Cure{{Text: "Push the image to Berth's registry, or import it.", Do: "image", Command: "berth image import FILE.tar"}, fix}}
	case has(m, "limits the rate", "toomanyrequests", "Too Many Requests"):
		return Finding{Cause: "The registry limits how often " + image + " may be pulled.",
			Cures: []Cure{{Text: "Push the image to Berth's registry, which has no such limit, or wait.", Do: "image"}}}
	case has(m, "cannot be resolved", "no such host"):
		return Finding{Cause: "The name of the registry of " + image + " cannot be resolved from this machine.",
			Cures: []Cure{{Text: "Check the machine's network and DNS, or import the image.", Command: "berth image import FILE.tar"}, retry}}
	case has(m, "no such image", "not found", "manifest unknown"):
		return Finding{Cause: "There is no image " + image + " in its registry.", Cures: []Cure{fix, {Text: "Or import it.", Command: "berth image import FILE.tar"}}}
	case has(m, "no space left", "disk is full"):
		return Finding{Cause: "The disk is full: there is no room for " + image + ".",
			Cures: []Cure{{Text: "Free disk space on the node, or add a node.", Command: "berth doctor"}}}
	case has(m, "secret", "GetAuthorizationToken", "credentials"):
		return Finding{Cause: "The credentials for the registry of " + image + " could not be had.",
			Cures: []Cure{{Text: "Check repositoryCredentials and the execution role.", Do: "revision"}}}
	}
	return Finding{Cause: "The image " + image + " could not be pulled: " + clause(m) + ".",
		Cures: []Cure{{Text: "Check that the machine reaches the registry, or import the image.", Command: "berth image import FILE.tar"}, fix}}
}

func cannotCreate(t *Task, c *Container, m string) Finding {
	f := Finding{Cause: who(c) + " could not be created: " + clause(m) + "."}
	switch {
	case has(m, "mount"):
		f.Cures = []Cure{{Text: "Correct the volume's sourcePath or the mount point: the path must exist on the node.", Do: "revision"}}
	case has(m, "was removed after it was pulled"):
		f.Cures = []Cure{{Text: "Start it again: the image is pulled anew.", Do: "image"}}
	case has(m, "user"):
		f.Cures = []Cure{{Text: "Correct the container's user: it must exist in the image.", Do: "revision"}}
	case has(m, "no space left", "quota"):
		f.Cures = []Cure{{Text: "Free disk space on the node, or ask for more ephemeral storage.", Do: "revision"}}
	default:
		f.Cures = []Cure{{Text: "Correct what it names in the task definition and deploy the new revision.", Do: "revision"}}
	}
	return f
}

func cannotStart(t *Task, c *Container, m string) Finding {
	switch {
	case has(m, "exec format error"):
		return Finding{Cause: who(c) + "'s program is built for another processor than this machine's (exec format error).",
			Cures: []Cure{{Text: "Build the image for this platform.", Command: "berth build -t " + t.image(c) + " ."}}}
	case has(m, "no such file or directory", "executable file not found"):
		return Finding{Cause: who(c) + "'s command is not in the image: " + clause(m) + ".",
			Cures: []Cure{{Text: "Correct command or entryPoint, or put the program into the image.", Do: "revision"}}}
	case has(m, "permission denied"):
		return Finding{Cause: who(c) + "'s command may not be executed: " + clause(m) + ".",
			Cures: []Cure{{Text: "Make the file executable in the image (chmod +x).", Do: "revision"}}}
	case has(m, "host port", "port is", "address already in use"):
		return Finding{Cause: who(c) + " cannot have its host port: " + clause(m) + ".",
			Cures: []Cure{{Text: "Use hostPort 0 for any free port, or stop what holds the port.", Do: "revision"}}}
	case has(m, "no address", "addresses"):
		return Finding{Cause: who(c) + " has no address: " + clause(m) + ".",
			Cures: []Cure{{Text: "End tasks that are not needed, or start Berth with a larger --vpc-cidr."}}}
	}
	return Finding{Cause: who(c) + " could not be started: " + clause(m) + ".",
		Cures: []Cure{{Text: "Correct what it names in the task definition and deploy the new revision.", Do: "revision"}}}
}

func cannotStop(_ *Task, c *Container, m string) Finding {
	return Finding{Cause: who(c) + " does not end, not even when it is killed: " + clause(m) + ".",
		Cures: []Cure{{Text: "Its process hangs in the kernel (often a dead NFS server or disk): mend that, or restart the machine.", Command: "berth doctor"}}}
}

func vanished(_ *Task, c *Container, _ string) Finding {
	return Finding{Cause: who(c) + " is gone without a word: the machine was restarted, or something besides Berth removed it.",
		Cures: []Cure{{Text: "Its service starts another; a task of its own must be run again.", Do: "run"}}}
}

func networking(_ *Task, c *Container, m string) Finding {
	f := Finding{Cause: who(c) + " could not be connected: " + clause(m) + "."}
	switch {
	case has(m, "host port"):
		f.Cures = []Cure{{Text: "Use hostPort 0 for any free port, or stop what holds the port.", Do: "revision"}}
	case has(m, "no address"):
		f.Cures = []Cure{{Text: "End tasks that are not needed, or start Berth with a larger --vpc-cidr."}}
	default:
		f.Cures = []Cure{{Text: "See what hinders the machine's network.", Command: "berth doctor"}}
	}
	return f
}

var logGroup = regexp.MustCompile(`log group (?:"([^"]+)"|(\S+))|The specified log group`)

func resources(t *Task, c *Container, m string) Finding {
	f := Finding{Cause: "What the task needs could not be made: " + clause(m) + "."}
	switch {
	case logGroup.MatchString(m):
		group := "its log group"
		if c != nil && c.Group != "" {
			group = c.Group
		} else {
			for i := range t.Containers {
				group = or(t.Containers[i].Group, group)
			}
		}
		f.Cause = "The log group " + group + " does not exist."
		f.Cures = []Cure{{Text: "Create it, or set awslogs-create-group to true.", Do: "loggroup", Value: group,
			Command: "aws logs create-log-group --log-group-name " + group}}
	case has(m, "secret", "parameter", "valueFrom"):
		f.Cures = []Cure{{Text: "Create the secret or parameter, and let the execution role read it.", Do: "revision"}}
	case has(m, "address"):
		f.Cures = []Cure{{Text: "End tasks that are not needed, or start Berth with a larger --vpc-cidr."}}
	case has(m, "volume", "folder"):
		f.Cures = []Cure{{Text: "Correct the volume in the task definition, or free disk space on the node.", Do: "revision"}}
	default:
		f.Cures = []Cure{{Text: "Correct what it names in the task definition and deploy the new revision.", Do: "revision"}}
	}
	return f
}

func dependency(_ *Task, c *Container, m string) Finding {
	f := Finding{Cause: sentence(m)}
	switch {
	case has(m, "wait for each other", "which the task does not have"):
		f.Cures = []Cure{{Text: "Correct dependsOn, links or volumesFrom in the task definition.", Do: "revision"}}
	case has(m, "startTimeout"):
		f.Cures = []Cure{{Text: "Give the dependency a longer startTimeout, or find out why it is slow.", Do: "revision"}, {Text: "Read the dependency's last lines.", Do: "logs"}}
	default:
		f.Cures = []Cure{{Text: "Mend the dependency: its own lines say why it failed.", Do: "logs"}}
	}
	return f
}

func outOfMemory(t *Task, c *Container, _ string) Finding {
	limit, what := t.MemoryMiB, "the task"
	if c != nil {
		what = c.Name
		if c.MemoryMiB > 0 {
			limit = c.MemoryMiB
		}
	}
	if limit <= 0 {
		return Finding{Cause: what + " was killed because memory ran out on its machine (exit 137).",
			Cures: []Cure{{Text: "Give it a memory limit, so that it is placed where there is room.", Do: "revision"}}}
	}
	more := strconv.FormatInt(limit*2, 10)
	return Finding{Cause: fmt.Sprintf("%s used all of its %d MiB and was killed (exit 137).", what, limit),
		Cures: []Cure{{Text: "Give it " + more + " MiB: new revision, deploy.", Do: "memory", Value: more}, logs(t, c)}}
}

func who(c *Container) string {
	if c == nil {
		return "A container"
	}
	return c.Name
}

func has(s string, any ...string) bool {
	for _, a := range any {
		if strings.Contains(s, a) {
			return true
		}
	}
	return false
}

// clause is a message as part of a sentence: bounded, without the full stop.
func clause(m string) string { return strings.TrimRight(short(m, 240), ". ") }

func sentence(m string) string {
	m = clause(m)
	if m == "" {
		return "It failed."
	}
	return strings.ToUpper(m[:1]) + m[1:] + "."
}
