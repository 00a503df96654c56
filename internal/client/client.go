// Package client is the part of the berth command that works on any machine, with Linux or without: it speaks to a Berth over the public
// API with the AWS SDK. On a machine that runs Berth, package cli adds the commands that need that machine.
package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	smithy "github.com/aws/smithy-go"
	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// UsageError is a command line that cannot be understood: the command exits with 2.
type UsageError struct{ error }

// Usage makes a UsageError of err.
func Usage(err error) error { return UsageError{err} }

// Unwrap returns what is wrong.
func (e UsageError) Unwrap() error { return e.error }

// Machine is what the machine that the command runs on adds; the zero Machine adds nothing.
type Machine struct {
	// Local finds the Berth of this machine; the error wraps ErrNotHere, and says how to start one, where there is none.
	Local func() (*Target, error)
	// Built is told of an image that was built here and not pushed.
	Built func(ctx context.Context, image string) error
}

// ErrNotHere says that no Berth has run on this machine.
var ErrNotHere = errors.New("no Berth has run on this machine")

// New is the root command with the commands of this package.
func New(version string, m Machine) *cobra.Command {
	root := &cobra.Command{
		Use:           "berth",
		Short:         "Run ECS, ECR and load balancers on your own machines",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	root.CompletionOptions.HiddenDefaultCmd = true
	c := &common{machine: m}
	root.AddCommand(c.env(), c.ps(), c.why(), c.console(), c.logs(), c.build(), c.exec(), c.connect(), versionCommand(version))
	return root
}

// Main runs the command line and returns the exit code: 0, 1 when it failed, 2 when it was not understood, or that of the command that it ran elsewhere.
func Main(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[ExitError](err); ok {
		return exit.Code
	}
	fmt.Fprintln(os.Stderr, "berth: "+sentence(err))
	if _, usage := errors.AsType[UsageError](err); usage {
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

// common is what the commands share.
type common struct{ machine Machine }

// NoArgs and Exactly refuse other arguments with exit code 2.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usage(fmt.Errorf("unknown command or argument %q; see: %s --help", args[0], cmd.CommandPath()))
	}
	return nil
}

// Exactly wants n arguments.
func Exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return Usage(fmt.Errorf("usage: %s", cmd.UseLine()))
		}
		return nil
	}
}

func versionCommand(version string) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		fmt.Fprintln(cmd.OutOrStdout(), "berth "+version)
		return nil
	}}
}
