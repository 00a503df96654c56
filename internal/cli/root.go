// Package cli is the berth command. Commands that talk to a running Berth do so over the public API with the AWS SDK; up, down,
// build and image also reach the instance's own sockets on this machine.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	smithy "github.com/aws/smithy-go"
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a command line that cannot be understood.
type usageError struct{ error }

// Main runs the command line and returns the exit code: 0, 1 when it failed, 2 when it was not understood.
func Main(ctx context.Context, version string, args []string) int {
	root := command(version)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "berth: "+sentence(err))
	_, usage := errors.AsType[usageError](err)
	_, setting := errors.AsType[*app.SettingError](err)
	if usage || setting {
		return exitUsage
	}
	return exitFailed
}

// sentence leaves out of an API's refusal what only programs need.
func sentence(err error) string {
	call, isCall := errors.AsType[*smithy.OperationError](err)
	refusal, isRefusal := errors.AsType[smithy.APIError](err)
	if isCall && isRefusal {
		return fmt.Sprintf("%s:%s was refused: %s: %s", strings.ToLower(call.Service()), call.Operation(), refusal.ErrorCode(), refusal.ErrorMessage())
	}
	return err.Error()
}

// common are the flags of every command.
type common struct {
	dataDir string
	version string
}

func command(version string) *cobra.Command {
	c := &common{version: version}
	root := &cobra.Command{
		Use:           "berth",
		Short:         "Run ECS, ECR and load balancers on your own machine",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&c.dataDir, "data-dir", envOr("BERTH_DATA_DIR", app.DefaultDataDir), "where Berth keeps its state")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(c.up(), c.down(), c.env(), c.doctor(), c.build(), c.image(), c.ps(), c.logs(), c.status(), c.node(), c.backup(), c.restore(), c.recover(), c.versionCommand(), c.containerd(), c.proxy())
	return root
}

func envOr(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}

// noArgs and exactly refuse with exit code 2.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown command or argument %q; see: %s --help", args[0], cmd.CommandPath())}
	}
	return nil
}

func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("usage: %s", cmd.UseLine())}
		}
		return nil
	}
}

func (c *common) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		fmt.Fprintln(cmd.OutOrStdout(), "berth "+c.version)
		return nil
	}}
}
