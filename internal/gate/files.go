package gate

import (
	"fmt"
	"syscall"
)

// wantFiles is how many descriptors a server asks for.
const wantFiles = 1 << 18

// RaiseFiles raises the process's limit of open descriptors as far as it may. The error says in words what stays small; the server
// works on with what it has.
func RaiseFiles() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("the limit of open descriptors cannot be read: %w", err)
	}
	if l.Cur >= wantFiles {
		return nil
	}
	more := syscall.Rlimit{Cur: wantFiles, Max: max(l.Max, wantFiles)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) == nil {
		return nil
	}
	most := syscall.Rlimit{Cur: l.Max, Max: l.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &most); err != nil {
		most = l
	}
	if most.Cur >= wantFiles {
		return nil
	}
	return fmt.Errorf("this process may have %d descriptors open, %d would be better: fewer connections are taken at once "+
		"(LimitNOFILE of its unit, or ulimit -n, raises that)", most.Cur, wantFiles)
}

// Part returns want, but not more connections than take the given part of the process's descriptors: 4 is a quarter.
func Part(want, part int) int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return min(want, 1024/part)
	}
	return int(min(uint64(want), max(l.Cur/uint64(part), 16)))
}
