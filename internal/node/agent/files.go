package agent

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// generated is a file of /etc that Berth writes for a container.
type generated struct {
	file
	destination string
}

// generated are the container's /etc/hosts, /etc/hostname and /etc/resolv.conf.
func (t *task) generated(c *container, hostname string) []generated {
	dir := t.filesDir()
	etc := func(name string, content []byte) generated {
		return generated{file{filepath.Join(dir, c.name()+"."+name), content}, "/etc/" + name} // no container's name has a dot
	}
	all := []generated{etc("hosts", t.hosts(c, hostname)), etc("resolv.conf", t.resolvConf(c))}
	if hostname != "" {
		all = append(all, etc("hostname", []byte(hostname+"\n")))
	}
	return all
}

func (t *task) filesDir() string {
	if t.agent.cfg.RunDir != "" {
		return filepath.Join(t.agent.cfg.RunDir, t.id)
	}
	return filepath.Join(t.dir, "files")
}

// hostname is the name of the machine that the container sees.
func (t *task) hostname(c *container) string {
	if h := deref(c.def.Hostname); h != "" {
		return h
	}
	switch t.mode {
	case types.NetworkModeHost:
		name, _ := os.Hostname()
		return name
	case types.NetworkModeAwsvpc:
		if info := t.rec.Network; info != nil && info.IPv4 != "" {
			return "ip-" + strings.ReplaceAll(info.IPv4, ".", "-") + "." + internalDomain(t.agent.cfg.Region)
		}
	}
	id := strings.ReplaceAll(c.obs.ID, "-", "")
	return id[:min(12, len(id))]
}

// internalDomain is the domain of private host names in a region.
func internalDomain(region string) string {
	if region == "" || region == "us-east-1" {
		return "ec2.internal"
	}
	return region + ".compute.internal"
}

// hosts is the container's /etc/hosts: its own name, then extraHosts, then links. In host mode the machine's lines come first.
func (t *task) hosts(c *container, hostname string) []byte {
	var b bytes.Buffer
	if t.mode == types.NetworkModeHost {
		if own, err := os.ReadFile(t.agent.cfg.Hosts); err == nil {
			b.Write(own)
			b.WriteByte('\n')
		}
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
		if info := t.netInfo(c); info != nil && info.IPv4 != "" && hostname != "" {
			short, _, _ := strings.Cut(hostname, ".")
			names := hostname
			if short != hostname {
				names += " " + short
			}
			fmt.Fprintf(&b, "%s\t%s\n", info.IPv4, names)
		}
	}
	for _, h := range c.def.ExtraHosts {
		fmt.Fprintf(&b, "%s\t%s\n", deref(h.IpAddress), deref(h.Hostname))
	}
	for _, l := range c.def.Links {
		name, alias, _ := strings.Cut(l, ":")
		other := t.byName(name)
		if other == nil || other.rec.Network == nil || other.rec.Network.IPv4 == "" {
			continue
		}
		if alias == "" || alias == name {
			fmt.Fprintf(&b, "%s\t%s\n", other.rec.Network.IPv4, name)
		} else {
			fmt.Fprintf(&b, "%s\t%s %s\n", other.rec.Network.IPv4, alias, name)
		}
	}
	return b.Bytes()
}

// systemdResolv lists the real name servers of a machine whose resolv.conf points to systemd's local one.
const systemdResolv = "/run/systemd/resolve/resolv.conf"

// resolvConf is the container's /etc/resolv.conf: the machine's, with the definition's dnsServers and dnsSearchDomains in place
// of its own. In another network namespace the machine's loopback name servers cannot be reached and are left out.
func (t *task) resolvConf(c *container) []byte {
	r := readResolv(t.agent.cfg.ResolvConf)
	if t.mode != types.NetworkModeHost {
		if r = r.withoutLoopback(); len(r.servers) == 0 {
			other := readResolv(systemdResolv).withoutLoopback()
			r.servers = other.servers
			if len(r.search) == 0 {
				r.search = other.search
			}
		}
	}
	if t.agent.cfg.Names && (t.mode == types.NetworkModeAwsvpc || t.mode == types.NetworkModeBridge) {
		r.servers = []string{t.agent.cfg.NameServer}
	}
	if len(r.servers) == 0 && t.mode != types.NetworkModeHost && t.agent.cfg.NameServer != "" {
		r.servers = []string{t.agent.cfg.NameServer}
	}
	if len(c.def.DnsServers) > 0 {
		r.servers = c.def.DnsServers
	}
	if len(c.def.DnsSearchDomains) > 0 {
		r.search = c.def.DnsSearchDomains
	}
	if len(r.servers) == 0 && t.mode != types.NetworkModeNone {
		t.log.Warn("containers have no name server: the machine's are on its loopback only; set dnsServers, or name a reachable one in "+
			t.agent.cfg.ResolvConf, "container", c.name())
	}
	return r.bytes()
}

// resolv is what matters of a resolv.conf.
type resolv struct {
	servers, search, options []string
}

func readResolv(path string) resolv {
	var r resolv
	data, err := os.ReadFile(path)
	if err != nil {
		return r
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			r.servers = append(r.servers, f[1])
		case "search", "domain":
			r.search = f[1:]
		case "options":
			r.options = append(r.options, f[1:]...)
		}
	}
	return r
}

func (r resolv) withoutLoopback() resolv {
	var kept []string
	for _, s := range r.servers {
		if addr, err := netip.ParseAddr(s); err == nil && !addr.IsLoopback() {
			kept = append(kept, s)
		}
	}
	r.servers = kept
	return r
}

func (r resolv) bytes() []byte {
	var b bytes.Buffer
	for _, s := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.search, " "))
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return b.Bytes()
}
