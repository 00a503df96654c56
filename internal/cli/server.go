package cli

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/fleet"
)

// server is the control plane alone, and has the commands about servers.
func (c *common) server() *cobra.Command {
	conf := app.Config{}
	pace, recover, sure := "", false, false
	cmd := &cobra.Command{Use: "server", Short: "Start Berth's control plane alone; show and change the cluster's servers", Args: noArgs,
		Long: `Start Berth's control plane alone, in the foreground: tasks run on other machines (berth node). With --join it becomes one of several
servers: one, three or five, of which a majority must live. "berth up" is server and node in one.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if recover {
				return app.RecoverQuorum(cmd.Context(), c.dataDir, sure, cmd.InOrStdin(), cmd.OutOrStdout())
			}
			conf.DataDir, conf.Version, conf.Pace = c.dataDir, c.version, model.Pace(pace)
			return setting(app.Server(cmd.Context(), conf, cmd.OutOrStdout()))
		}}
	f := cmd.Flags()
	f.StringVar(&conf.Listen, "listen", "", "address of the API (default "+app.DefaultListen+", or what it was)")
	f.StringVar(&conf.Region, "region", "", "region of the ARNs (default "+app.DefaultRegion+")")
	f.StringVar(&conf.Account, "account", "", "account of the ARNs (default "+app.DefaultAccount+")")
	f.StringVar(&conf.IAM, "iam", "", "enforce: users and roles may do what their policies allow; off: every key may do everything (default\nenforce, or what it was)")
	f.StringVar(&pace, "pace", "", "fast, or aws to keep AWS's own waits (default fast)")
	f.Var(&optionalInt{&conf.ElectionMs}, "election-ms", "how long the servers wait for a silent leader, in milliseconds: more where disks are slow (a setting of the\ncluster; default what it was, at first 1000)")
	f.StringVar(&conf.Advertise, "advertise", "", "the IP address at which other machines reach this one")
	masterKeyFlag(f, &conf)
	f.StringVar(&conf.Join, "join", "", "berth://HOST:4567/TOKEN of the cluster whose server this machine becomes (there: berth token server)")
	f.BoolVar(&recover, "recover", false, "go on with this server alone: a majority of the servers is lost for good")
	f.BoolVar(&sure, "yes", false, "with --recover: do not ask")
	f.BoolVarP(&conf.Verbose, "verbose", "v", false, "log more")
	cmd.AddCommand(
		c.report(&cobra.Command{Use: "ls", Short: "List the servers", Args: noArgs},
			func(w io.Writer, r fleet.Report, _ []string) error { return r.Show(w) }),
		&cobra.Command{Use: "rm SERVER", Short: "Remove a server from the cluster, by its id or host; first a dead one, then its successor joins", Args: exactly(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				row, err := app.RemoveServer(cmd.Context(), c.dataDir, args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "server %s (%s) is not of the cluster any more\n", row.ID[:min(8, len(row.ID))], row.Name)
				return err
			}})
	return cmd
}

// optionalInt is a flag of a number that may be left out.
type optionalInt struct{ to **int }

func (o *optionalInt) String() string { return "" }
func (o *optionalInt) Type() string   { return "int" }
func (o *optionalInt) Set(text string) error {
	n, err := strconv.Atoi(text)
	*o.to = &n
	return err
}
