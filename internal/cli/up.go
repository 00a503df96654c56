package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berthdev/berth/internal/app"
	"github.com/berthdev/berth/internal/model"
)

func (c *common) up() *cobra.Command {
	conf := app.Config{}
	pace := ""
	cmd := &cobra.Command{Use: "up", Short: "Start Berth: the APIs and this machine's node", Args: noArgs,
		Long: `Start Berth: the APIs and this machine's node, in the foreground. SIGTERM or Ctrl-C stops the server and leaves the
tasks running; the next "berth up" manages them again. "berth down" stops everything.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf.DataDir, conf.Version, conf.Pace = c.dataDir, c.version, model.Pace(pace)
			return setting(app.Run(cmd.Context(), conf, cmd.OutOrStdout()))
		}}
	f := cmd.Flags()
	f.StringVar(&conf.Listen, "listen", "", "address of the API (default "+app.DefaultListen+", or what it was)")
	f.StringVar(&conf.Region, "region", "", "region of the ARNs (default "+app.DefaultRegion+")")
	f.StringVar(&conf.Account, "account", "", "account of the ARNs (default "+app.DefaultAccount+")")
	f.StringVar(&conf.IAM, "iam", "", "enforce: users and roles may do what their policies allow; off: every key may do everything (default\nenforce, or what it was)")
	f.StringVar(&pace, "pace", "", "fast, or aws to keep AWS's own waits (default fast)")
	f.StringVar(&conf.Runtime, "runtime", "", "containerd, or fake for tasks without containers (default containerd)")
	f.BoolVar(&conf.Encrypt, "encrypt", false, "encrypt what goes between tasks of different machines (WireGuard, in Berth's own process: a\nstream costs several times the CPU; 500 machines at most). Once set it stays")
	f.StringVar(&conf.VPCCIDR, "vpc-cidr", "", "network that tasks have their addresses from, /16 to /24 (default 172.31.0.0/16, or another when the\nmachine lives in that)")
	f.Var(&optionalInt{&conf.ElectionMs}, "election-ms", "how long the servers wait for a silent leader, in milliseconds: more where disks are slow (a setting of the\ncluster; default what it was, at first 1000)")
	f.StringVar(&conf.Advertise, "advertise", "", "the IP address at which other machines reach this one; opens the cluster port (4567/tcp) for them\n(default what it was; closed at first: berth token node opens it too)")
	masterKeyFlag(f, &conf)
	f.StringVar(&conf.Join, "join", "", "berth://HOST:4567/TOKEN of the cluster of which this machine becomes a server, and a node (there: berth token server)")
	f.StringVar(&conf.MetricsListen, "metrics-listen", "", "where /metrics answers in Prometheus' text form, such as 127.0.0.1:9464, without signatures (default nowhere: berth metrics)")
	f.BoolVarP(&conf.Verbose, "verbose", "v", false, "log more")
	return cmd
}

func (c *common) down() *cobra.Command {
	conf := app.DownConfig{}
	cmd := &cobra.Command{Use: "down", Short: "Stop Berth, its tasks and its network", Args: noArgs,
		Long: `Stop Berth, its tasks and its network. Tasks get their stop signal and their stopTimeout, those that others depend on last.
It may be interrupted and repeated; what does not end is named and holds up nothing else.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf.DataDir = c.dataDir
			return app.Down(cmd.Context(), conf, cmd.OutOrStdout())
		}}
	cmd.Flags().BoolVar(&conf.Purge, "purge", false, "delete the data too: state, images and logs")
	cmd.Flags().BoolVar(&conf.Now, "now", false, "kill tasks at once instead of asking them to end")
	return cmd
}

// containerd is how Berth runs its own containerd, as a process beside it.
func (c *common) containerd() *cobra.Command {
	config := ""
	cmd := &cobra.Command{Use: "containerd", Hidden: true, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return app.Containerd(cmd.Context(), config)
	}}
	cmd.Flags().StringVar(&config, "config", "", "file that `berth up` wrote")
	return cmd
}

// proxy is how Berth runs its load balancers, as a process that outlives the server.
func (c *common) proxy() *cobra.Command {
	config, started := "", false
	cmd := &cobra.Command{Use: "proxy", Hidden: true, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return app.Proxy(cmd.Context(), config, started)
	}}
	cmd.Flags().StringVar(&config, "config", "", "file that `berth up` wrote")
	cmd.Flags().BoolVar(&started, "started", false, "descriptor 3 is a socket of `berth up`")
	return cmd
}

// masterKeyFlag is that of both kinds of server.
func masterKeyFlag(f *pflag.FlagSet, conf *app.Config) {
	f.StringVar(&conf.BlobStore, "blob-store", "", "keep images in a bucket: s3://BUCKET[/PREFIX][?endpoint=URL&region=REGION], with the keys of\nAWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (default what it was; at first the data directory)")
	f.StringVar(&conf.EncryptImages, "encrypt-images", "", "encrypt repositories that are made without an encryption of their own (AES256): on or off (default what it was;\nat first off)")
	f.StringVar(&conf.MasterKey, "master-key", "", "what wraps all keys: file:/PATH, or command:PROGRAM ARGS, which prints it; a passphrase comes from\nBERTH_MASTER_PASSPHRASE (default master.key in the data directory, which servers hand to each other)")
}
