// Package cli is the berth command on a machine that runs Berth: the commands of package client, and those that need the machine.
package cli

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
	"github.com/berthdev/berth/internal/client"
)

// common are the flags of every command.
type common struct {
	dataDir string
	version string
}

// Command is the root command.
func Command(version string) *cobra.Command {
	c := &common{version: version}
	root := client.New(version, client.Machine{Local: c.local, Built: c.built})
	root.PersistentFlags().StringVar(&c.dataDir, "data-dir", envOr("BERTH_DATA_DIR", app.DefaultDataDir), "where Berth keeps its state")
	root.AddCommand(c.up(), c.down(), c.doctor(), c.image(), c.registry(), c.vulndb(), c.scanWorker(), c.status(), c.metrics(), c.node(), c.fileSystem(), c.server(), c.token(), c.ca(), c.backup(), c.restore(), c.recover(), c.containerd(), c.proxy())
	return root
}

func envOr(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}

// What is refused with exit code 2.
var (
	noArgs  = client.NoArgs
	exactly = client.Exactly
)

// setting makes a setting that cannot be used an error of the command line.
func setting(err error) error {
	if _, ok := errors.AsType[*app.SettingError](err); ok {
		return client.Usage(err)
	}
	return err
}
