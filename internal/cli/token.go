package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/app"
	"github.com/berthdev/berth/internal/client"
)

// token has the commands by which machines and laptops are let in.
func (c *common) token() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Let machines and laptops join", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(
		c.newToken("node", "Make a token by which machines join as nodes", "berth node --join"),
		c.newToken("server", "Make a token by which one machine joins as a server", "berth server --join"),
		c.newToken("client", "Make a token by which a laptop reaches the API", "berth connect"),
		&cobra.Command{Use: "ls", Short: "List the tokens", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return c.listTokens(cmd) }},
		&cobra.Command{Use: "rm TOKEN", Short: "Make a token useless, by its id", Args: exactly(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return app.RemoveToken(cmd.Context(), c.dataDir, args[0])
			}})
	return cmd
}

// newToken prints the command to be run on the other machine.
func (c *common) newToken(role, short, use string) *cobra.Command {
	conf := app.TokenConfig{Role: role}
	cmd := &cobra.Command{Use: role, Short: short, Args: noArgs,
		Long: short + ".\nIt opens the cluster port (4567/tcp) of the Berth that runs here, if that is closed.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf.DataDir = c.dataDir
			j, err := app.NewToken(cmd.Context(), conf)
			if err != nil {
				return setting(err)
			}
			uses := "reusable"
			if j.Uses > 0 {
				uses = fmt.Sprintf("for %d", j.Uses)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", use, j.URL)
			fmt.Fprintf(cmd.ErrOrStderr(), "(good until %s, %s)\n", j.Expires.Local().Format(time.DateTime), uses)
			return err
		}}
	f := cmd.Flags()
	f.StringVar(&conf.Advertise, "advertise", "", "the IP address at which other machines reach this one (default its only one, or what it was)")
	f.DurationVar(&conf.Life, "life", 0, "how long it is good, such as 2h")
	f.IntVar(&conf.Uses, "uses", 0, "how many machines may join with it; -1 is any number")
	return cmd
}

func (c *common) listTokens(cmd *cobra.Command) error {
	all, err := app.Tokens(cmd.Context(), c.dataDir)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "TOKEN\tFOR\tEXPIRES\tUSES")
	for _, t := range all {
		uses := fmt.Sprint(t.Uses)
		if t.MaxUses > 0 {
			uses = fmt.Sprintf("%d of %d", t.Uses, t.MaxUses)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.ID, t.Role, t.ExpiresAt.Local().Format(time.DateTime), uses)
	}
	return w.Flush()
}

// runNode is `berth node`: this machine as a node of a cluster.
func (c *common) runNode(cmd *cobra.Command) {
	conf := app.NodeConfig{}
	var clusters, attributes []string
	balancer := false
	cmd.Long = `Be a node of a cluster: a machine that runs tasks. The first time it joins, by a token that a server made (berth token node);
after that it needs none. SIGTERM or Ctrl-C leaves the tasks running; the next "berth node" manages them again.`
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		conf.DataDir, conf.Version = c.dataDir, c.version
		if cmd.Flags().Changed("cluster") {
			conf.Clusters = clusters
		}
		if cmd.Flags().Changed("attribute") {
			var err error
			if conf.Attributes, err = pairs(attributes); err != nil {
				return client.Usage(err)
			}
		}
		if cmd.Flags().Changed("lb") {
			conf.Balancer = &balancer
		}
		return setting(app.Node(cmd.Context(), conf, cmd.OutOrStdout()))
	}
	cmd.AddCommand(&cobra.Command{Use: "reset", Short: "Forget which node of which cluster this machine is", Args: noArgs,
		Long: "Forget which node of which cluster this machine is, as one must whose disk is a copy of another's. Its tasks end when it joins again.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.ResetNode(c.dataDir, cmd.OutOrStdout())
		}})
	f := cmd.Flags()
	f.StringVar(&conf.Join, "join", "", "where and as whom to join: what berth token node prints on a server")
	f.StringVar(&conf.Replace, "replace", "", "the node whose place this machine takes, by its id or host")
	f.StringVar(&conf.Advertise, "advertise", "", "the IP address at which other machines reach this one (default that of its connection to the server)")
	f.StringVar(&conf.Listen, "listen", "", "where the cluster's API answers on this machine (default "+app.DefaultListen+", or what it was)")
	f.StringVar(&conf.Zone, "zone", "", "its availability zone, such as b (default a, or what it was)")
	f.StringSliceVar(&clusters, "cluster", nil, "the clusters of which it is a container instance (default all)")
	f.StringArrayVar(&attributes, "attribute", nil, "an attribute name=value of its container instances; may be repeated")
	f.BoolVar(&balancer, "lb", false, "serve load balancers there, or, with =false, do not (default what it was; at first the first nine nodes do)")
	f.StringVar(&conf.Runtime, "runtime", "", "containerd, or fake for tasks without containers (default containerd)")
	f.BoolVarP(&conf.Verbose, "verbose", "v", false, "log more")
}

// pairs reads name=value.
func pairs(all []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range all {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--attribute %q: want name=value", s)
		}
		out[name] = value
	}
	return out, nil
}
