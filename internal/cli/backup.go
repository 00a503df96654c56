package cli

import (
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
)

func (c *common) backup() *cobra.Command {
	return &cobra.Command{Use: "backup FILE", Short: "Write the state, the keys and the name of this Berth to one file", Args: exactly(1),
		Long: `Write the state, the keys and the name of this Berth to one file, as they are at one moment; the server may run. Images, logs and
volumes are not in it. The file holds the root key: whoever can read it owns this Berth.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.Backup(cmd.Context(), c.dataDir, args[0], cmd.OutOrStdout())
		}}
}

func (c *common) restore() *cobra.Command {
	return &cobra.Command{Use: "restore FILE", Short: "Put a backup in the place of the state; what was there is kept aside", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.Restore(cmd.Context(), c.dataDir, args[0], cmd.OutOrStdout())
		}}
}

func (c *common) recover() *cobra.Command {
	return &cobra.Command{Use: "recover", Short: "Save what can be read of a damaged state; the broken files are kept aside", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.Recover(cmd.Context(), c.dataDir, cmd.OutOrStdout())
		}}
}
