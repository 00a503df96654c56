package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
	"github.com/berthdev/berth/internal/doctor"
)

func (c *common) doctor() *cobra.Command {
	listen := ""
	cmd := &cobra.Command{Use: "doctor", Short: "Check that this machine can run Berth", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		conf := doctor.Config{DataDir: c.dataDir, Listen: app.DefaultListen}
		if in, err := app.LoadInstance(c.dataDir); err == nil {
			conf.Listen, conf.Running, conf.Containerd = in.Listen, in.Running(), in.Containerd()
		}
		if listen != "" {
			conf.Listen = listen
		}
		bad := 0
		for _, f := range doctor.Check(cmd.Context(), conf) {
			fmt.Fprintf(cmd.OutOrStdout(), "%-4s  %s\n", f.Grade, f.Sentence)
			if f.Grade != doctor.OK && f.Cure != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "      → %s\n", f.Cure)
			}
			if f.Grade == doctor.Fail {
				bad++
			}
		}
		if bad > 0 {
			return errors.New("this machine can't run Berth as it is; see above")
		}
		return nil
	}}
	cmd.Flags().StringVar(&listen, "listen", "", "address of the API that `berth up` will be told")
	return cmd
}
