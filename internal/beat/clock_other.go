//go:build !linux

package beat

import (
	"errors"
	"time"
)

var began = time.Now()

func sinceBoot() time.Duration { return time.Since(began) }

// Boot names this boot of the machine.
func Boot() (uint64, error) { return 0, errors.New("nodes run on Linux only") }
