package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
	"github.com/berthdev/berth/internal/client"
)

func (c *common) backup() *cobra.Command {
	plan := app.BackupPlan{Keep: 20}
	cmd := &cobra.Command{Use: "backup FILE", Short: "Write the state, the keys and the name of this Berth to one file", Args: exactly(1),
		Long: `Write the state, the keys and the name of this Berth to one file, as they are at one moment; the server may run. Images and logs are in
it when that is asked for, volumes are not. The file holds the root key: whoever can read it owns this Berth.

With --every this server goes on writing backups by itself, to files of the folder FILE; with --every 0 no more.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("every") {
				if cmd.Flags().Changed("keep") {
					return client.Usage(errors.New("--keep is for --every"))
				}
				return app.Backup(cmd.Context(), c.dataDir, args[0], plan.BackupWhat, cmd.OutOrStdout())
			}
			plan.Dir = args[0]
			return setting(app.PlanBackups(cmd.Context(), c.dataDir, plan, cmd.OutOrStdout()))
		}}
	f := cmd.Flags()
	f.BoolVar(&plan.Blobs, "blobs", false, "with the images that were pushed")
	f.BoolVar(&plan.Logs, "logs", false, "with the log events of this server (of several, each has two thirds or so)")
	f.DurationVar(&plan.Every, "every", 0, "have this server write one this often, such as 6h")
	f.IntVar(&plan.Keep, "keep", 20, "with --every: how many to keep")
	return cmd
}

func (c *common) restore() *cobra.Command {
	confirm, sure := false, false
	cmd := &cobra.Command{Use: "restore FILE", Short: "Put a backup in the place of the state; what was there is kept aside",
		Long: `Put a backup in the place of the state; what was there is kept aside. No server may run. Tasks that were begun after the backup run on,
though the state does not know them, until "berth restore --confirm" has shown them and stops them.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if confirm {
				return noArgs(cmd, args)
			}
			return exactly(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if confirm {
				return app.ConfirmRestore(cmd.Context(), c.dataDir, sure, cmd.InOrStdin(), cmd.OutOrStdout())
			}
			return app.Restore(cmd.Context(), c.dataDir, args[0], cmd.OutOrStdout())
		}}
	cmd.Flags().BoolVar(&confirm, "confirm", false, "the server runs: show the tasks that its state does not know, and stop them")
	cmd.Flags().BoolVar(&sure, "yes", false, "with --confirm: do not ask")
	return cmd
}

func (c *common) recover() *cobra.Command {
	return &cobra.Command{Use: "recover", Short: "Save what can be read of a damaged state; the broken files are kept aside", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.Recover(cmd.Context(), c.dataDir, cmd.OutOrStdout())
		}}
}
