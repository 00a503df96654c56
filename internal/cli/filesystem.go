package cli

import (
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
)

// fileSystem has the commands about what stands for EFS on this machine.
func (c *common) fileSystem() *cobra.Command {
	cmd := &cobra.Command{Use: "file-system", Short: "Say what stands for EFS file systems on this machine", Args: noArgs,
		Long: `Say what stands for the EFS file systems and access points of task definitions on this machine: a directory, such as one on shared
storage, or an NFS export, which is mounted in each container. It counts for tasks that begin from then on; each machine has its own.`}
	set := &cobra.Command{Use: "set fs-ID /DIRECTORY|nfs://HOST/PATH", Short: "Have a directory or an NFS export stand for a file system", Args: exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			return setting(app.SetFileSystem(c.dataDir, args[0], args[1]))
		}}
	rm := &cobra.Command{Use: "rm fs-ID", Short: "Have nothing stand for it; its files stay", Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error { return app.SetFileSystem(c.dataDir, args[0], "") }}
	ls := &cobra.Command{Use: "ls", Short: "List them", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return app.FileSystems(c.dataDir, cmd.OutOrStdout()) }}
	cmd.AddCommand(set, rm, ls)
	return cmd
}
