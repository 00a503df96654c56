package edge

import (
	"os"
	"path/filepath"
	"sync"
)

// maxLog is how long a log may grow before it is set aside; the one before that is deleted.
const maxLog = 8 << 20

// Log is the process's log file. It never holds more than twice maxLog, however long the process runs.
type Log struct {
	path string
	max  int64

	mu   sync.Mutex
	f    *os.File
	size int64
}

// OpenLog appends to a Config's LogFile.
func OpenLog(c Config) (*Log, error) {
	l := &Log{path: c.LogFile, max: maxLog}
	return l, l.open()
}

// open needs the lock, once others have the Log.
func (l *Log) open() error {
	f, err := openLog(l.path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	if l.f != nil {
		l.f.Close() // what matters is in the file
	}
	l.f, l.size = f, info.Size()
	return nil
}

// Write implements io.Writer.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(b)) > l.max {
		if os.Rename(l.path, l.path+".1") == nil {
			if err := l.open(); err != nil {
				return 0, err
			}
		}
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	return n, err
}

func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}
