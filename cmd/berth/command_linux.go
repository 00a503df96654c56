package main

import (
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/cli"
)

func command(version string) *cobra.Command { return cli.Command(version) }
