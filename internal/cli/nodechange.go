package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
)

// nodeChanges are the commands that change a node.
func (c *common) nodeChanges() []*cobra.Command {
	wait, force := true, false
	drain := &cobra.Command{Use: "drain NODE", Short: "Move a node's tasks to others, and wait for that", Args: exactly(1),
		Long: "Move the tasks of services to other nodes, within their minimumHealthyPercent and maximumPercent, and place nothing there any more,\n" +
			"as a container instance in the state DRAINING. Tasks of no service stay until they end.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := app.ChangeNode(cmd.Context(), c.dataDir, args[0], "drain", false); err != nil || !wait {
				return err
			}
			return app.WaitEmpty(cmd.Context(), c.dataDir, args[0], cmd.OutOrStdout())
		}}
	drain.Flags().BoolVar(&wait, "wait", true, "wait until no service has a task there")
	activate := &cobra.Command{Use: "activate NODE", Short: "Have a drained node take tasks again", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := app.ChangeNode(cmd.Context(), c.dataDir, args[0], "activate", false)
			return err
		}}
	rm := &cobra.Command{Use: "rm NODE", Short: "Forget a node, whose certificate is no good from then on", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			left, err := app.ChangeNode(cmd.Context(), c.dataDir, args[0], "rm", force)
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is forgotten. A machine that is to come back joins anew.\n", left.Host)
			}
			return err
		}}
	rm.Flags().BoolVar(&force, "force", false, "also when the node is up or has tasks, which end")
	confirm := &cobra.Command{Use: "confirm-lost", Short: "Say that the silent nodes are lost, though they are most of them", Args: noArgs,
		Long: "When most nodes are silent at once, Berth waits for 30 s before it replaces their tasks: then rather its own network is broken.\n" +
			"This says that it is not.",
		RunE: func(cmd *cobra.Command, _ []string) error { return app.ConfirmLost(cmd.Context(), c.dataDir) }}
	return []*cobra.Command{drain, activate, rm, confirm}
}
