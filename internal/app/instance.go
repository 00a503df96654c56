// Package app puts Berth together: it is the only package that knows every other. Run is the server and node of `berth up`.
package app

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/berthdev/berth/internal/api/ec2"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/keys"
	"github.com/berthdev/berth/internal/timeouts"
)

// The defaults of `berth up`.
const (
	DefaultDataDir = "/var/lib/berth"
	DefaultListen  = "127.0.0.1:4566"
	DefaultRegion  = "us-east-1"
	DefaultAccount = "000000000000"
)

// Config is what `berth up` was told. What is empty comes from the data directory or, on first start, from the defaults.
type Config struct {
	DataDir string
	Listen  string
	Region  string
	Account string
	Pace    model.Pace
	IAM     string // enforce or off
	Runtime string // containerd or fake
	VPCCIDR string // of the VPC that clients see, from which tasks have their addresses
	Encrypt bool   // what goes between tasks of different machines
	// Advertise is where other machines reach this one; "" is what it was, and at first nowhere.
	Advertise string
	Alone     bool // no tasks run on this machine
	// ElectionMs is how long the servers of the cluster wait for a silent leader; nil: what it was.
	ElectionMs *int
	// MasterKey is where the key that wraps all others comes from: file:<path> or command:<program>; "" is master.key in DataDir.
	MasterKey string
	// BlobStore is where images' blobs are: s3://bucket[/prefix][?endpoint=…&region=…]; "" is what it was, and at first the data directory.
	BlobStore string
	// EncryptImages has repositories be encrypted for which nobody says otherwise: on or off; "" is what it was, and at first off.
	EncryptImages string
	Join          string // berth://host:port/token of a cluster that this machine is to be a server of; needed once
	Version       string
	Verbose       bool
	// MetricsListen is where /metrics answers, without signatures; "" is nowhere.
	MetricsListen string
}

// Instance is one Berth on a machine: what its data directory says of it. Several run side by side.
type Instance struct {
	// ID is 6 hexadecimal digits; the names of bridges, namespaces, nft tables and cgroups carry it.
	ID      string     `json:"id"`
	NodeID  string     `json:"nodeId"`
	Listen  string     `json:"listen"`
	Region  string     `json:"region"`
	Account string     `json:"account"`
	Pace    model.Pace `json:"pace"`
	IAM     string     `json:"iam,omitempty"` // "off": every key may do everything; else policies decide
	Runtime string     `json:"runtime"`
	VPCCIDR string     `json:"vpcCidr,omitempty"` // "" is the default's, and avoids what the machine uses
	Encrypt bool       `json:"encrypt,omitempty"` // what goes between tasks of different machines; once set it stays
	Created time.Time  `json:"created"`
	// Advertise is where other machines reach this one's cluster port (host:port); "" while that is closed.
	Advertise string `json:"advertise,omitempty"`
	Peers     bool   `json:"peers,omitempty"` // it is one of several servers, or was: etcd listens for the others
	// ElectionMs is what the cluster's settings say, for etcd's start.
	ElectionMs int    `json:"electionMs,omitempty"`
	Alone      bool   `json:"alone,omitempty"`     // `berth server`: no tasks run on this machine
	MasterKey  string `json:"masterKey,omitempty"` // where it comes from, as --master-key says
	BlobStore  string `json:"blobStore,omitempty"` // as --blob-store says; "": the data directory
	// EncryptImages is "on" when repositories are encrypted for which nobody says otherwise.
	EncryptImages string        `json:"encryptImages,omitempty"`
	Node          *NodeSettings `json:"node,omitempty"` // what `berth node` keeps; nil on a server
	dir           string
	saved         bool // it was there
	// names has the proxy's process answer tasks' DNS questions at an address; nil: there is none.
	names func(address string) bool
}

// ErrNoInstance says that a data directory holds no Berth.
var ErrNoInstance = errors.New("no Berth has run with this data directory")

// LoadInstance reads the instance of a data directory. The error is ErrNoInstance when nothing ever ran there.
func LoadInstance(dir string) (*Instance, error) {
	// Other processes, with folders of their own, are told of it.
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "instance.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w; start one with: berth up --data-dir %s", dir, ErrNoInstance, dir)
	}
	if err != nil {
		return nil, err
	}
	in := &Instance{dir: dir, saved: true}
	if err := json.Unmarshal(data, in); err != nil {
		return nil, fmt.Errorf("%s/instance.json: %w", dir, err)
	}
	return in, nil
}

// openInstance reads or makes the instance of c's data directory and lays c's explicit settings over it. The account cannot
// change: it is in every stored ARN.
func openInstance(c Config) (*Instance, error) {
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	c.DataDir = dir
	if err := claimDir(c.DataDir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	in, err := LoadInstance(c.DataDir)
	if errors.Is(err, ErrNoInstance) {
		in, err = &Instance{ID: randomHex(3), NodeID: randomHex(16), Listen: DefaultListen, Region: DefaultRegion,
			Account: DefaultAccount, Pace: model.PaceFast, Runtime: "containerd", Created: time.Now().UTC(), dir: c.DataDir}, nil
		set(&in.Account, c.Account)
		set(&in.Region, c.Region)
		set(&in.VPCCIDR, c.VPCCIDR)
	}
	if err != nil {
		return nil, err
	}
	if c.Account != "" && c.Account != in.Account || c.Region != "" && c.Region != in.Region {
		return nil, fmt.Errorf("%s belongs to account %s in region %s: its ARNs cannot change; use another --data-dir",
			c.DataDir, in.Account, in.Region)
	}
	if c.VPCCIDR != "" && c.VPCCIDR != in.VPCCIDR {
		return nil, fmt.Errorf("%s was made with the VPC %s, which cannot change; use another --data-dir", c.DataDir, in.vpc())
	}
	if in.Node != nil {
		return nil, fmt.Errorf("%s is a node of a cluster: start it with berth node, or use another --data-dir", c.DataDir)
	}
	if in.Alone != c.Alone && in.saved {
		return nil, fmt.Errorf("%s is that of %s; start it so, or use another --data-dir", c.DataDir, map[bool]string{true: "berth server", false: "berth up"}[in.Alone])
	}
	in.Alone = c.Alone
	if c.Advertise != "" {
		if in.Advertise, err = advertised(c.Advertise); err != nil {
			return nil, err
		}
	}
	if c.ElectionMs != nil {
		if err := checkElection(*c.ElectionMs); err != nil {
			return nil, err
		}
	}
	in.Encrypt = in.Encrypt || c.Encrypt
	set(&in.Listen, c.Listen)
	set(&in.Pace, c.Pace)
	set(&in.IAM, c.IAM)
	set(&in.Runtime, c.Runtime)
	set(&in.MasterKey, c.MasterKey)
	set(&in.BlobStore, c.BlobStore)
	set(&in.EncryptImages, c.EncryptImages)
	if err := in.check(); err != nil {
		return nil, err
	}
	return in, in.save()
}

func set[T ~string](dst *T, v T) {
	if v != "" {
		*dst = v
	}
}

// SettingError is a setting that cannot be used.
type SettingError struct{ Flag, Value, Want string }

func (e *SettingError) Error() string {
	return fmt.Sprintf("--%s %q: want %s", e.Flag, e.Value, e.Want)
}

var (
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	regionPattern  = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)+$`)
)

// check returns a *SettingError.
func (in *Instance) check() error {
	_, errNetwork := in.network(in.Scope())
	_, errMaster := in.masterKey()
	_, port, err := net.SplitHostPort(in.Listen)
	number, errPort := strconv.ParseUint(port, 10, 16)
	for _, s := range []struct {
		ok                bool
		flag, value, want string
	}{
		{err == nil && errPort == nil && number > 0, "listen", in.Listen, "an address and a port, such as " + DefaultListen},
		{slices.Contains([]string{"", "enforce", "off"}, in.IAM), "iam", in.IAM, "enforce or off"},
		{in.Pace == model.PaceFast || in.Pace == model.PaceAWS, "pace", string(in.Pace), "fast or aws"},
		{in.Runtime == "containerd" || in.Runtime == "fake", "runtime", in.Runtime, "containerd or fake"},
		{accountPattern.MatchString(in.Account), "account", in.Account, "12 digits"},
		{errNetwork == nil, "vpc-cidr", in.VPCCIDR, "a private IPv4 network from /16 to /24, such as " + ec2.CIDR},
		{errMaster == nil, "master-key", in.MasterKey, "file:/<path> or command:<program and arguments>"},
		{slices.Contains([]string{"", "on", "off"}, in.EncryptImages), "encrypt-images", in.EncryptImages, "on or off"},
		{regionPattern.MatchString(in.Region), "region", in.Region, "a name such as " + DefaultRegion},
	} {
		if !s.ok {
			return &SettingError{s.flag, s.value, s.want}
		}
	}
	return nil
}

// save writes instance.json so that a crash leaves the old or the new one.
func (in *Instance) save() error {
	data, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if old, err := os.ReadFile(in.Path("instance.json")); err == nil && bytes.Equal(old, data) {
		return nil // a full disk keeps no server from starting
	}
	return writeFile(in.Path("instance.json"), data)
}

func writeFile(path string, data []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// vpc is the range of the VPC.
func (in *Instance) vpc() string { return cmp.Or(in.VPCCIDR, ec2.CIDR) }

// network is the VPC that clients see. Its range was checked.
func (in *Instance) network(scope model.Scope) (ec2.Network, error) {
	cidr, err := netip.ParsePrefix(in.vpc())
	if err != nil {
		return ec2.Network{}, err
	}
	if in.VPCCIDR != "" && !cidr.Addr().IsPrivate() {
		return ec2.Network{}, fmt.Errorf("%s is no private network", cidr)
	}
	return ec2.NewNetwork(scope, cidr)
}

// Scope is what the instance's ARNs are made from.
func (in *Instance) Scope() model.Scope { return model.Scope{Account: in.Account, Region: in.Region} }

// Path joins elements to the data directory.
func (in *Instance) Path(elem ...string) string {
	return filepath.Join(append([]string{in.dir}, elem...)...)
}

// RunDir holds sockets and namespaces; it is gone after a reboot.
func (in *Instance) RunDir() string { return "/run/berth/" + in.ID }

// ContainerdSocket is where `berth containerd` listens.
func (in *Instance) ContainerdSocket() string { return filepath.Join(in.RunDir(), "containerd.sock") }

// BuildSocket is where BuildKit's protocol is spoken.
func (in *Instance) BuildSocket() string { return filepath.Join(in.RunDir(), "buildkit.sock") }

// dialBuilder reaches the builder of this machine.
func (in *Instance) dialBuilder(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", in.BuildSocket())
}

// Namespace is containerd's namespace of the instance.
func (in *Instance) Namespace() string { return "berth-" + in.ID }

// masterKey is where the key that wraps all others comes from.
func (in *Instance) masterKey() (keys.Source, error) {
	return keys.ParseSource(in.MasterKey, in.Path("master.key"), os.Getenv("BERTH_MASTER_PASSPHRASE"))
}

// RootKey is the file with the root access key.
func (in *Instance) RootKey() string { return in.Path("root-key.json") }

// Port is the API's port.
func (in *Instance) Port() string {
	_, port, _ := net.SplitHostPort(in.Listen)
	return port
}

// RegistryHost is the name under which clients reach the registry: docker takes localhost for a registry without TLS.
func (in *Instance) RegistryHost() string { return "localhost:" + in.Port() }

// lock makes sure that one server runs on a data directory. The lock ends with the process.
func (in *Instance) lock() (release func(), err error) {
	f, err := os.OpenFile(in.Path("server.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for began := time.Now(); ; time.Sleep(timeouts.LockLook) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		text, _ := os.ReadFile(in.Path("server.lock"))
		pid, _ := strconv.Atoi(string(text))
		// One that was killed while it began a process leaves the lock to that for a moment, until it becomes another program.
		if gone := pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH); !gone || time.Since(began) > timeouts.LockLeft {
			return nil, errors.Join(fmt.Errorf("another berth up (process %s) runs on %s", text, in.dir), f.Close())
		}
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprint(os.Getpid()))); err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// Running tells whether a server runs on the data directory.
func (in *Instance) Running() bool { return in.serverPID() != 0 }

// serverPID is the process that holds the lock, 0 when none does.
func (in *Instance) serverPID() int {
	f, err := os.OpenFile(in.Path("server.lock"), os.O_RDWR, 0o600)
	if err != nil {
		return 0
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return 0
	}
	var pid int
	_, _ = fmt.Fscan(f, &pid)
	return pid
}
