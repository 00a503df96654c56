package cli

import (
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
)

// ca has the commands about the cluster's authority.
func (c *common) ca() *cobra.Command {
	cmd := &cobra.Command{Use: "ca", Short: "Show and replace the authority that signs the machines' certificates", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	finish := false
	rotate := &cobra.Command{Use: "rotate", Short: "Replace the authority, step by step, without anybody noticing", Args: noArgs,
		Long: `Replace the authority: from now on two are trusted, each node renews its certificate by the new one, and when all have, the old one is
trusted no more. Tokens of before are useless then. Repeat the command, or say berth ca show, to see how far it is.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.RotateCA(cmd.Context(), c.dataDir, finish, cmd.OutOrStdout())
		}}
	rotate.Flags().BoolVar(&finish, "finish", false, "go on without the nodes that have not renewed: they join again with a token")
	cmd.AddCommand(rotate, &cobra.Command{Use: "show", Short: "Show the authorities, and which nodes are yet to renew", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.ShowCA(cmd.Context(), c.dataDir, cmd.OutOrStdout())
		}})
	return cmd
}
