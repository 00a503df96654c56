// Package edge is the process `berth proxy`, in which the load balancers and the API's port live, so that the server's end, crash or
// upgrade ends no connection of theirs: Run is the process, Keeper starts, feeds, watches and upgrades it from `berth up`.
package edge

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/berthdev/berth/internal/model"
)

// Config is what the process runs with. Dir, Listen and LogFile are required.
type Config struct {
	// Dir is the run directory: the process's sockets, its table and this config are there. Only the user may enter it.
	Dir string
	// Listen is the address of the API; requests there whose Host is no load balancer's go on to the server at APISocket.
	Listen string
	// Addresses are those of this machine at which load balancers answer.
	Addresses []string
	Pace      model.Pace
	// NameServer is the address at which the DNS questions of this machine's tasks are answered, such as 10.0.0.1:53; "" where there are none.
	NameServer string
	// LogFile is appended to, and set aside when it has grown.
	LogFile string
	// Cgroup is the cgroup to join, so that the process does not end with that of its caller; "" stays.
	Cgroup  string
	Version string
	Verbose bool
	// Fingerprint tells this config and program from others; Keeper sets it.
	Fingerprint string
}

// Socket is where the process is reached. Only its user may.
func (c Config) Socket() string { return filepath.Join(c.Dir, "proxy.sock") }

// APISocket is where the server takes the API's requests.
func (c Config) APISocket() string { return filepath.Join(c.Dir, "api.sock") }

func (c Config) table() string { return filepath.Join(c.Dir, "proxy.table") }

func (c Config) file() string { return filepath.Join(c.Dir, "proxy.json") }

// ReadConfig reads the file that `berth proxy --config` names.
func ReadConfig(path string) (Config, error) {
	var c Config
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err == nil && (c.Dir == "" || c.Listen == "" || c.LogFile == "") {
		err = errors.New("it lacks the run directory, the address or the log file")
	}
	if err != nil {
		return c, fmt.Errorf("the proxy's config %s: %w", path, err)
	}
	return c, nil
}

func (c Config) save() error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	tmp := c.file() + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, c.file())
}

// program is this process's own, also when its file has been replaced.
const program = "/proc/self/exe"

// fingerprint changes with the config and with the program.
func (c Config) fingerprint(program string) string {
	c.Fingerprint = ""
	data, _ := json.Marshal(c) // strings and numbers
	h := sha256.New()
	h.Write(data)
	if info, err := os.Stat(program); err == nil {
		fmt.Fprint(h, info.Size(), info.ModTime().UnixNano())
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			fmt.Fprint(h, " ", st.Dev, st.Ino)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}
