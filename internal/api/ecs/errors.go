package ecs

import (
	"iter"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/berthdev/berth/internal/model"
)

// missing is the reason of a failure for what does not exist.
const missing = "MISSING"

func invalid(format string, args ...any) error {
	return model.Errorf("InvalidParameterException", format, args...)
}

// tooMany refuses a list of more than most elements; what names its elements.
func tooMany(what string, most int) error {
	return invalid("%s can have at most %d elements.", what, most)
}

// oneOf refuses a value that is none of an enumeration's; "" is what was left out.
func oneOf[T ~string](what string, v T, values []T) error {
	if v == "" || slices.Contains(values, v) {
		return nil
	}
	return noneOf(what, values)
}

func noneOf[T ~string](what string, values []T) error {
	names := make([]string, len(values))
	for i, value := range values {
		names[i] = string(value)
	}
	return invalid("%s should be one of [%s]", what, strings.Join(names, ","))
}

// included checks what a Describe operation is asked to include.
func included[T ~string](asked, values []T) error {
	for _, v := range asked {
		if !slices.Contains(values, v) {
			return noneOf("include", values)
		}
	}
	return nil
}

// launchTypes are the launch types that AWS names when it refuses one.
var launchTypes = []types.LaunchType{types.LaunchTypeEc2, types.LaunchTypeFargate, types.LaunchTypeExternal, "FMI",
	types.LaunchTypeManagedInstances}

// eachOnce finds what refs name and calls found or lacking once for each, however often and in whichever spelling it is named. find
// returns a key of the thing, or of what is lacking.
func eachOnce[T any](refs []string, find func(ref string) (thing T, key string, ok bool), found func(T), lacking func(key string)) {
	before := map[string]bool{}
	for _, ref := range refs {
		thing, key, ok := find(ref)
		switch {
		case before[key]:
		case ok:
			found(thing)
		default:
			lacking(key)
		}
		before[key] = true
	}
}

func clientError(format string, args ...any) error {
	return model.Errorf("ClientException", format, args...)
}

func notYet(what string) error {
	return invalid("Berth does not support %s yet.", what)
}

func failure(arn, reason string) types.Failure {
	f := types.Failure{Reason: &reason}
	if arn != "" {
		f.Arn = &arn
	}
	return f
}

func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func number(p *int32) int32 {
	if p == nil {
		return 0
	}
	return *p
}

// count is how many of all are so.
func count[T any](all iter.Seq[T], so func(T) bool) (n int) {
	for one := range all {
		if so(one) {
			n++
		}
	}
	return n
}
