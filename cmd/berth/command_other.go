//go:build !linux

package main

import (
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/client"
)

func command(version string) *cobra.Command { return client.New(version, client.Machine{}) }
