package cli

import (
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
)

// metrics prints the server's own metrics.
func (c *common) metrics() *cobra.Command {
	return &cobra.Command{Use: "metrics", Short: "Print the server's metrics in Prometheus' text form", Args: noArgs,
		Long: "Print the server's metrics in Prometheus' text form. To have them scraped: berth up --metrics-listen 127.0.0.1:9464.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return setting(app.Metrics(cmd.Context(), c.dataDir, cmd.OutOrStdout()))
		}}
}
