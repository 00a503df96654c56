package cli

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
)

func (c *common) image() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Load and list the images of this node", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(c.sbom())
	cmd.AddCommand(&cobra.Command{Use: "import FILE.tar", Short: "Load an OCI layout or a docker-archive", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := app.LoadInstance(c.dataDir)
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			names, err := app.ImportImages(cmd.Context(), in, f)
			if err != nil {
				return fmt.Errorf("import %s: %w", args[0], err)
			}
			for _, n := range names {
				fmt.Fprintln(cmd.OutOrStdout(), n)
			}
			return nil
		}})
	cmd.AddCommand(&cobra.Command{Use: "ls", Short: "List images", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		in, err := app.LoadInstance(c.dataDir)
		if err != nil {
			return err
		}
		images, err := app.ListImages(cmd.Context(), in)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "IMAGE\tDIGEST\tSIZE\tCREATED")
		for _, i := range images {
			fmt.Fprintf(w, "%s\t%.19s\t%.1f MB\t%s\n", i.Ref, i.Digest, float64(i.Size)/1e6, i.Created.Format("2006-01-02 15:04"))
		}
		return w.Flush()
	}})
	return cmd
}
