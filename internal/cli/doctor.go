package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
	"github.com/berthdev/berth/internal/doctor"
)

func (c *common) doctor() *cobra.Command {
	listen, other := "", ""
	cmd := &cobra.Command{Use: "doctor", Short: "Check that this machine can run Berth, and reaches another", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		if other != "" {
			return c.showFindings(cmd, doctor.Peer(cmd.Context(), other), "this machine and that one can't be of one cluster as they are; see above")
		}
		conf := doctor.Config{DataDir: c.dataDir, Listen: app.DefaultListen}
		if in, err := app.LoadInstance(c.dataDir); err == nil {
			conf.Listen, conf.Running, conf.Containerd = in.Listen, in.Running(), in.Containerd()
		}
		if listen != "" {
			conf.Listen = listen
		}
		return c.showFindings(cmd, doctor.Check(cmd.Context(), conf), "this machine can't run Berth as it is; see above")
	}}
	cmd.Flags().StringVar(&other, "peer", "", "look at what gets through to the machine at this IP address instead")
	cmd.Flags().StringVar(&listen, "listen", "", "address of the API that `berth up` will be told")
	return cmd
}

// showFindings prints them; failed is the error if one of them fails.
func (c *common) showFindings(cmd *cobra.Command, all []doctor.Finding, failed string) error {
	bad := 0
	for _, f := range all {
		fmt.Fprintf(cmd.OutOrStdout(), "%-4s  %s\n", f.Grade, f.Sentence)
		if f.Grade != doctor.OK && f.Cure != "" {
			fmt.Fprintf(cmd.OutOrStdout(), "      → %s\n", f.Cure)
		}
		if f.Grade == doctor.Fail {
			bad++
		}
	}
	if bad > 0 {
		return errors.New(failed)
	}
	return nil
}
