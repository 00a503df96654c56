package taskdef

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a task's cpu outside Fargate, in CPU units (the SDK's RegisterTaskDefinitionInput.Cpu).
const (
	minTaskCPU = 128
	maxTaskCPU = 196608
	unitsACore = 1024
	mibAGiB    = 1024
)

// What is no size at all is told apart from one that there is not (the latter's text: ECS troubleshooting guide).
const (
	noTaskSize  = "Invalid '%s' setting for task."
	badTaskSize = noTaskSize + " For more information, see the Troubleshooting section of the Amazon ECS Developer Guide."
)

var sizePattern = regexp.MustCompile(`^(\d*\.?\d+)\s*([a-z]*)$`)

// ParseCPU reads a task's cpu: "1024", "1 vCPU" or ".5 vcpu", in CPU units.
func ParseCPU(s string) (int64, bool) {
	return parseSize(s, map[string]float64{"": 1, "vcpu": unitsACore, "vcpus": unitsACore})
}

// ParseMemory reads a task's memory: "2048", "2 GB" or "0.5gb", in MiB.
func ParseMemory(s string) (int64, bool) {
	return parseSize(s, map[string]float64{"": 1, "mb": 1, "mib": 1, "gb": mibAGiB, "gib": mibAGiB})
}

func parseSize(s string, units map[string]float64) (int64, bool) {
	m := sizePattern.FindStringSubmatch(strings.ToLower(strings.TrimSpace(s)))
	if m == nil {
		return 0, false
	}
	unit, ok := units[m[2]]
	n, err := strconv.ParseFloat(m[1], 64)
	if n *= unit; !ok || err != nil || n < 1 || n > math.MaxInt32 || n != math.Trunc(n) {
		return 0, false
	}
	return int64(n), true
}

// cpuString rewrites a task's cpu in CPU units; nil stays nil.
func cpuString(s *string) (*string, error) {
	if value(s) == "" {
		return nil, nil
	}
	n, ok := ParseCPU(*s)
	if !ok {
		return nil, refuseParameter(noTaskSize, "cpu")
	}
	if n < minTaskCPU || n > maxTaskCPU {
		return nil, refuse(badTaskSize, "cpu")
	}
	return new(strconv.FormatInt(n, 10)), nil
}

// memoryString rewrites a task's memory in MiB; nil stays nil.
func memoryString(s *string) (*string, error) {
	if value(s) == "" {
		return nil, nil
	}
	n, ok := ParseMemory(*s)
	if !ok {
		return nil, refuseParameter(noTaskSize, "memory")
	}
	if n < minMemory {
		return nil, refuse(badTaskSize, "memory")
	}
	return new(strconv.FormatInt(n, 10)), nil
}

// amount is a normalised size as a number, 0 when there is none.
func amount(s *string) int64 {
	n, err := strconv.ParseInt(value(s), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// fargateRange is the memory that Fargate has for one amount of cpu: from min to max in steps, in GiB.
type fargateRange struct{ min, max, step int64 }

var fargateRanges = map[int64]fargateRange{
	512: {1, 4, 1}, 1024: {2, 8, 1}, 2048: {4, 16, 1}, 4096: {8, 30, 1}, 8192: {16, 60, 4}, 16384: {32, 120, 8},
}

// FargateSize tells whether Fargate has a size of cpu units and memory MiB (ecs.md 1.2).
func FargateSize(cpu, memory int64) bool {
	switch cpu {
	case 256:
		return slices.Contains([]int64{512, 1 * mibAGiB, 2 * mibAGiB}, memory)
	case 32768:
		return slices.Contains([]int64{60 * mibAGiB, 120 * mibAGiB, 244 * mibAGiB}, memory)
	}
	r, ok := fargateRanges[cpu]
	gib := memory / mibAGiB
	return ok && memory%mibAGiB == 0 && gib >= r.min && gib <= r.max && (gib-r.min)%r.step == 0
}
