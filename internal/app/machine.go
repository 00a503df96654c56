package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
)

func openMachine(ctx context.Context, in *Instance, s *server, log *slog.Logger) (*machine, error) {
	return nil, errors.New("pending")
}
func Containerd(ctx context.Context, file string) error { return errors.New("pending") }
func Down(ctx context.Context, dir string, purge bool, out io.Writer) error {
	return errors.New("pending")
}
