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
	var change app.RunRuleChange
	rule := &cobra.Command{Use: "rule", Short: "Show or set what the registry's images must be like to be run", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.RegistryRule(cmd.Context(), c.dataDir, change, cmd.OutOrStdout())
		}}
	rule.Flags().BoolVar(&change.RequireScan, "require-scan", false, "let them run once they were scanned")
	rule.Flags().StringVar(&change.MaxSeverity, "max-severity", "", "let them run once they were scanned, without findings above this: CRITICAL, HIGH, MEDIUM, LOW, INFORMATIONAL, UNDEFINED")
	rule.Flags().BoolVar(&change.Off, "off", false, "let all run")
	cmd.AddCommand(gc, rule,
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
