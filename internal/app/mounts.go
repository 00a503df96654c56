package app

import (
	"os"
	"strings"
)

// mountsBelow lists the mount points below dir in the order in which they were mounted (/proc/self/mountinfo, field 5).
func mountsBelow(dir string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			all = append(all, f[4])
		}
	}
	return all, nil
}
