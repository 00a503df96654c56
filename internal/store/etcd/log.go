package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// storageVersionNotYet is what a new member says at its first look, before it has written its first term; it looks again later.
const storageVersionNotYet = "failed to update storage version"

// core hands etcd's warnings and errors to slog; the rest of what it says is for etcd's own operators.
type core struct {
	log      *slog.Logger
	fields   []zapcore.Field
	starting *starting
}

// starting is what etcd says while it starts: its last words are the reason why it does not, and a fatal error is a panic then, which
// becomes an error. Later a fatal error ends the process, as etcd wants it.
type starting struct {
	on    atomic.Bool
	words atomic.Pointer[string]
}

func (s *starting) last() string {
	if words := s.words.Load(); words != nil {
		return *words
	}
	return ""
}

// OnWrite implements zapcore.CheckWriteHook for fatal errors.
func (s *starting) OnWrite(e *zapcore.CheckedEntry, _ []zapcore.Field) {
	if s.on.Load() {
		panic(e.Message)
	}
	os.Exit(1)
}

// Enabled implements zapcore.Core.
func (c *core) Enabled(l zapcore.Level) bool { return l >= zapcore.ErrorLevel }

// With implements zapcore.Core.
func (c *core) With(f []zapcore.Field) zapcore.Core {
	return &core{c.log, append(c.fields[:len(c.fields):len(c.fields)], f...), c.starting}
}

// Check implements zapcore.Core.
func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if e.Message == storageVersionNotYet {
		return nil
	}
	m := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		f.AddTo(m)
	}
	if strings.Contains(fmt.Sprint(m.Fields["error"]), net.ErrClosed.Error()) { // how its listener ends
		return nil
	}
	if c.starting.on.Load() {
		words := fmt.Sprint(e.Message, " ", m.Fields)
		c.starting.words.Store(&words)
		return nil
	}
	message := e.Message
	if e.Level > zapcore.ErrorLevel { // zap ends the process next
		message = "etcd cannot go on, and so Berth ends; tasks go on running, and berth up manages them again: " + message
	}
	c.log.Log(context.Background(), slog.LevelError, message, "fields", m.Fields)
	return nil
}

// Sync implements zapcore.Core.
func (c *core) Sync() error { return nil }
