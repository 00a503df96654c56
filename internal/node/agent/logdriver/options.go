package logdriver

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/node/agent/outlet/bound"
)

// target is where a container's lines go. A group means awslogs; without one they go to a json-file.
type target struct {
	group, stream string
	create        bool
	// starts matches the first line of an event; nil when each line is one.
	starts *regexp.Regexp

	maxSize int64 // json-file: bytes at which the file is rotated
	maxFile int

	routed bool // to the task's log router

	blocking bool
	buffer   int64 // max-buffer-size; 0 when it is not given
}

// maxWaiting is how much of a container's output may wait on the disk to be carried away.
const maxWaiting = 256 << 20

// bound is what the container's shim keeps. A json-file log waits in no more than its own files may take. max-buffer-size is for
// containers that do not wait, as in Docker.
func (t target) bound() bound.Bound {
	b := bound.Bound{Bytes: maxWaiting, Blocking: t.blocking}
	if t.group == "" && !t.routed {
		b.Bytes = min(b.Bytes, t.maxSize*int64(t.maxFile))
	}
	if t.buffer > 0 && !t.blocking {
		b.Bytes = min(b.Bytes, t.buffer)
	}
	b.Bytes = max(b.Bytes, bound.Least)
	return b
}

// The bounds of json-file logs whose options do not say.
const (
	defaultMaxSize = 20 << 20
	defaultMaxFile = 5
)

// targetOf reads a container's log configuration. The error is a sentence for the user.
func targetOf(spec agent.LogSpec) (target, error) {
	c := spec.Config
	if c == nil {
		return target{maxSize: defaultMaxSize, maxFile: defaultMaxFile}, nil
	}
	var t target
	var err error
	switch c.LogDriver {
	case types.LogDriverAwsfirelens:
		if spec.Firelens == nil {
			return t, fmt.Errorf("container %s uses the log driver awsfirelens without a log router", spec.Container)
		}
		t = target{routed: true}
	case types.LogDriverAwslogs:
		t, err = awslogsTarget(spec, c.Options)
	case types.LogDriverJsonFile:
		t, err = jsonFileTarget(c.Options)
	default:
		return t, fmt.Errorf("container %s uses the log driver %s, which Berth does not support; use awslogs, awsfirelens or json-file",
			spec.Container, c.LogDriver)
	}
	if err != nil {
		return t, fmt.Errorf("failed to validate logger args: container %s: %w", spec.Container, err)
	}
	return t, nil
}

func awslogsTarget(spec agent.LogSpec, options map[string]string) (target, error) {
	t := target{stream: spec.ID}
	var err error
	for name, value := range options {
		switch name {
		case "awslogs-group":
			t.group = value
		case "awslogs-stream-prefix":
			t.stream = value + "/" + spec.Container + "/" + spec.TaskID
		case "awslogs-create-group":
			if t.create, err = strconv.ParseBool(value); err != nil {
				return t, fmt.Errorf("awslogs-create-group must be true or false, not %q", value)
			}
		case "awslogs-multiline-pattern":
			if t.starts, err = regexp.Compile(value); err != nil {
				return t, fmt.Errorf("awslogs could not parse multiline pattern key %q: %w", value, err)
			}
		case "awslogs-datetime-format":
			if options["awslogs-multiline-pattern"] != "" {
				return t, errors.New("you cannot configure log opt 'awslogs-datetime-format' and 'awslogs-multiline-pattern' at the same time")
			}
			if t.starts, err = dateTimePattern(value); err != nil {
				return t, err
			}
		case "mode":
			if t.blocking, err = isBlocking(value); err != nil {
				return t, err
			}
		case "max-buffer-size":
			if t.buffer, err = parseSize(value); err != nil {
				return t, fmt.Errorf("max-buffer-size: %w", err)
			}
		case "awslogs-region", "awslogs-endpoint": // every group is in Berth's own store
		default:
			return t, fmt.Errorf("unknown log opt '%s' for awslogs log driver", name)
		}
	}
	if t.group == "" {
		return t, errors.New("must specify a value for log opt 'awslogs-group'")
	}
	if s := options["awslogs-stream"]; s != "" {
		t.stream = s
	}
	return t, nil
}

func jsonFileTarget(options map[string]string) (target, error) {
	t := target{maxSize: defaultMaxSize, maxFile: defaultMaxFile}
	var err error
	for name, value := range options {
		switch name {
		case "max-size":
			if t.maxSize, err = parseSize(value); err != nil || t.maxSize == 0 {
				return t, fmt.Errorf("max-size must be a size such as 10m, not %q", value)
			}
		case "max-file":
			if t.maxFile, err = strconv.Atoi(value); err != nil || t.maxFile < 1 || t.maxFile > 100 {
				return t, fmt.Errorf("max-file must be a number from 1 to 100, not %q", value)
			}
		case "mode":
			if t.blocking, err = isBlocking(value); err != nil {
				return t, err
			}
		case "max-buffer-size":
			if t.buffer, err = parseSize(value); err != nil {
				return t, fmt.Errorf("max-buffer-size: %w", err)
			}
		default:
			return t, fmt.Errorf("log opt '%s' of the json-file log driver is not supported; max-size and max-file are", name)
		}
	}
	return t, nil
}

// isBlocking reads the mode. Without one a container does not wait for its log, which is ECS's default too.
func isBlocking(mode string) (bool, error) {
	if mode != "blocking" && mode != "non-blocking" {
		return false, fmt.Errorf("mode must be blocking or non-blocking, not %q", mode)
	}
	return mode == "blocking", nil
}

// parseSize reads sizes as Docker writes them: 1024, 10k, 20m, 1g, 20mb.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(strings.ToLower(strings.TrimSpace(s)), "bkmgi")
	unit := strings.TrimRight(strings.ToLower(strings.TrimSpace(s))[len(digits):], "ib")
	shift, known := map[string]int{"": 0, "k": 10, "m": 20, "g": 30}[unit]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !known || n < 0 || n > 1<<30 {
		return 0, fmt.Errorf("%q is not a size such as 10m", s)
	}
	return n << shift, nil
}

// conversions are the directives of awslogs-datetime-format (strftime's) as regular expressions.
var conversions = map[byte]string{
	'a': `(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)`, 'A': `(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)`,
	'b': `(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)`,
	'B': `(?:January|February|March|April|May|June|July|August|September|October|November|December)`,
	'd': `\d{2}`, 'e': `[ \d]\d`, 'H': `\d{2}`, 'I': `\d{2}`, 'j': `\d{3}`, 'm': `\d{2}`, 'M': `\d{2}`, 'S': `\d{2}`, 'y': `\d{2}`,
	'Y': `\d{4}`, 'f': `\d{1,9}`, 'L': `\.\d{3}`, 'p': `[AP]M`, 'w': `\d`, 'z': `[+-]\d{4}`, 'Z': `[A-Z]{1,4}T`, '%': `%`,
}

// dateTimePattern is the pattern of awslogs-datetime-format.
func dateTimePattern(format string) (*regexp.Regexp, error) {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteString(regexp.QuoteMeta(format[i : i+1]))
			continue
		}
		i++
		if i == len(format) || conversions[format[i]] == "" {
			return nil, fmt.Errorf("awslogs-datetime-format %q has a directive that is not known", format)
		}
		b.WriteString(conversions[format[i]])
	}
	return regexp.Compile(b.String())
}
