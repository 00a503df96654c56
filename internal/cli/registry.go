package cli

import (
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
)

// registry has the commands about the registry's blobs.
func (c *common) registry() *cobra.Command {
	cmd := &cobra.Command{Use: "registry", Short: "Check, tidy and rebuild the image registry", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	dry := false
	gc := &cobra.Command{Use: "gc", Short: "Free what no image needs, as Berth does every hour", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.CollectRegistry(cmd.Context(), c.dataDir, dry, cmd.OutOrStdout())
		}}
	gc.Flags().BoolVar(&dry, "dry-run", false, "list it only")
	cmd.AddCommand(gc,
		&cobra.Command{Use: "check", Short: "Read all that images need and compare it with its digests", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return app.CheckRegistry(cmd.Context(), c.dataDir, cmd.OutOrStdout())
			}},
		&cobra.Command{Use: "rebuild", Short: "Bring back repositories and images that the blob store knows and the state does not", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return app.RebuildRegistry(cmd.Context(), c.dataDir, cmd.OutOrStdout())
			}})
	return cmd
}
