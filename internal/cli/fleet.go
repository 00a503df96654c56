package cli

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
	"github.com/berthdev/berth/internal/serve/fleet"
)

// status is the cluster at a glance.
func (c *common) status() *cobra.Command {
	return c.report(&cobra.Command{Use: "status", Short: "Show the cluster and its servers", Args: noArgs},
		func(w io.Writer, r fleet.Report, _ []string) error { return r.Show(w) })
}

// node has the commands about machines that run tasks.
func (c *common) node() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Be a node of a cluster; show and change its nodes", Args: noArgs}
	c.runNode(cmd)
	cmd.AddCommand(
		c.report(&cobra.Command{Use: "ls", Short: "List the nodes, and what is odd about each", Args: noArgs},
			func(w io.Writer, r fleet.Report, _ []string) error { return r.ShowNodes(w) }),
		c.report(&cobra.Command{Use: "show NODE", Short: "Show all that is known of a node, by its id, host or address", Args: exactly(1)},
			func(w io.Writer, r fleet.Report, args []string) error {
				n, err := r.Find(args[0])
				if err != nil {
					return err
				}
				return r.ShowNode(w, n)
			}))
	cmd.AddCommand(c.nodeChanges()...)
	return cmd
}

// report completes a command that shows something of the report of the server on this machine; --json prints the whole.
func (c *common) report(cmd *cobra.Command, show func(io.Writer, fleet.Report, []string) error) *cobra.Command {
	raw := false
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := app.Fleet(cmd.Context(), c.dataDir)
		if err != nil {
			return err
		}
		if raw {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(r)
		}
		return show(cmd.OutOrStdout(), r, args)
	}
	cmd.Flags().BoolVar(&raw, "json", false, "print all that is known, for programs")
	return cmd
}
