package cli

import (
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
)

// vulndb has the commands about the database of vulnerabilities.
func (c *common) vulndb() *cobra.Command {
	cmd := &cobra.Command{Use: "vulndb", Short: "The database of vulnerabilities that images are matched with", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(
		&cobra.Command{Use: "import FILE…", Short: "Import OSV's all.zip of an ecosystem, or the Debian tracker's JSON", Args: cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return app.ImportVulnerabilities(cmd.Context(), c.dataDir, args, cmd.OutOrStdout())
			}},
		&cobra.Command{Use: "status", Short: "Say what was imported, and when", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return app.ShowVulnerabilities(cmd.Context(), c.dataDir, cmd.OutOrStdout())
			}})
	return cmd
}

// scanWorker reads an image's layers on its input; the server runs it.
func (c *common) scanWorker() *cobra.Command {
	return &cobra.Command{Use: "scan-worker", Hidden: true, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return app.ScanWorker(cmd.InOrStdin(), cmd.OutOrStdout())
	}}
}

// sbom writes what an image has.
func (c *common) sbom() *cobra.Command {
	return &cobra.Command{Use: "sbom REPOSITORY[:TAG|@DIGEST]", Short: "Write the SPDX document of an image in the registry", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.ShowSBOM(cmd.Context(), c.dataDir, args[0], cmd.OutOrStdout())
		}}
}
