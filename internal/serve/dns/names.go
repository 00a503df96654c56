package dns

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/berthdev/berth/internal/serve/proxy"
)

// names are those that are answered here. Its methods may be called from many goroutines.
type names struct {
	mu     sync.RWMutex
	byKey  map[string]proxy.Name
	byHost map[string]map[string]proxy.Name // by host, then by key
	above  map[string]int                   // how many hosts lie below a name: it exists, and has nothing itself
}

func (n *names) change(d proxy.Delta) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if d.All || n.byKey == nil {
		n.byKey, n.byHost, n.above = map[string]proxy.Name{}, map[string]map[string]proxy.Name{}, map[string]int{}
	}
	for _, key := range d.GoneNames {
		n.drop(key)
	}
	for _, one := range d.Names {
		n.drop(one.Key)
		n.byKey[one.Key] = one
		if n.byHost[one.Host] == nil {
			n.byHost[one.Host] = map[string]proxy.Name{}
		}
		n.byHost[one.Host][one.Key] = one
		n.count(one.Host, 1)
	}
}

// all are the names there are.
func (n *names) all() []proxy.Name {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Collect(maps.Values(n.byKey))
}

func (n *names) drop(key string) {
	one, ok := n.byKey[key]
	if !ok {
		return
	}
	delete(n.byKey, key)
	if delete(n.byHost[one.Host], key); len(n.byHost[one.Host]) == 0 {
		delete(n.byHost, one.Host)
	}
	n.count(one.Host, -1)
}

func (n *names) count(host string, by int) {
	for _, up, more := strings.Cut(host, "."); more; _, up, more = strings.Cut(up, ".") {
		if n.above[up] += by; n.above[up] == 0 {
			delete(n.above, up)
		}
	}
}

// visible is the name of a host that a source may see.
func (n *names) visible(host string, source netip.Addr) (proxy.Name, bool) {
	for _, one := range n.byHost[host] {
		if len(one.Ranges) == 0 || slices.ContainsFunc(one.Ranges, func(p netip.Prefix) bool { return p.Contains(source) }) {
			return one, true
		}
	}
	return proxy.Name{}, false
}

// zone is the namespace that a host is in, as a source sees it: the most special one.
func (n *names) zone(host string, source netip.Addr) (proxy.Name, bool) {
	for more := true; more; _, host, more = strings.Cut(host, ".") {
		if z, ok := n.visible(host, source); ok && z.Zone == z.Host {
			return z, true
		}
	}
	return proxy.Name{}, false
}

// most is how many instances an answer names.
const most = 8

// answer answers a question about a name in a namespace that the source sees; nil: it is somebody else's to answer.
func (n *names) answer(question []byte, source netip.Addr, limit int) []byte {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if len(n.byKey) == 0 {
		return nil
	}
	var in dns.Msg
	if in.Unpack(question) != nil || in.Response || in.Opcode != dns.OpcodeQuery || len(in.Question) != 1 {
		return nil
	}
	q := in.Question[0]
	host := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	zone, ok := n.zone(host, source)
	if !ok {
		return nil
	}
	out := new(dns.Msg)
	out.SetReply(&in)
	out.Authoritative, out.RecursionAvailable = true, true
	if q.Qclass != dns.ClassINET || !n.fill(out, q, host, source) {
		out.Rcode = dns.RcodeNameError
	}
	if len(out.Answer) == 0 { // how long that may be remembered
		out.Ns = []dns.RR{&dns.SOA{Hdr: header(zone.Zone+".", dns.TypeSOA, zone.SOATTL), Ns: "ns." + zone.Zone + ".", Mbox: "hostmaster." + zone.Zone + ".",
			Serial: 1, Refresh: 7200, Retry: 900, Expire: 1209600, Minttl: zone.SOATTL}}
	}
	if limit == 0 {
		limit = dns.MaxMsgSize
	} else if opt := in.IsEdns0(); opt != nil {
		out.SetEdns0(1232, false)
		limit = min(1232, max(limit, int(opt.UDPSize())))
	}
	out.Truncate(limit)
	packed, err := out.Pack()
	if err != nil {
		return nil
	}
	return packed
}

func header(name string, kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// fill puts the records of a host into an answer. false: there is no such name.
func (n *names) fill(out *dns.Msg, q dns.Question, host string, source netip.Addr) (exists bool) {
	if one, ok := n.visible(host, source); ok {
		for _, r := range one.Records {
			for _, i := range chosen(one) {
				if rr := record(q.Name, host, q.Qtype, r, i); rr != nil {
					out.Answer = append(out.Answer, rr)
				}
				if q.Qtype == dns.TypeSRV && r.Type == "SRV" && i.IPv4.IsValid() {
					out.Extra = append(out.Extra, &dns.A{Hdr: header(i.ID+"."+host+".", dns.TypeA, r.TTL), A: i.IPv4.AsSlice()})
				}
			}
		}
		return true
	}
	// The names of instances are those that SRV records lead to.
	id, service, _ := strings.Cut(host, ".")
	if one, ok := n.visible(service, source); ok {
		for _, r := range one.Records {
			if k := slices.IndexFunc(one.Instances, func(i proxy.Instance) bool { return strings.ToLower(i.ID) == id }); k >= 0 && r.Type == "SRV" {
				if rr := record(q.Name, host, q.Qtype, proxy.Record{Type: "A", TTL: r.TTL}, one.Instances[k]); rr != nil {
					out.Answer = append(out.Answer, rr)
				}
				return true
			}
		}
	}
	return n.above[host] > 0
}

// chosen are the instances of one answer: up to eight that are healthy, or of all when none is, in random order.
func chosen(one proxy.Name) []proxy.Instance {
	var all []proxy.Instance
	for _, i := range one.Instances {
		if !i.Unhealthy {
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		all = slices.Clone(one.Instances)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if one.Weighted {
		return all[:min(len(all), 1)]
	}
	return all[:min(len(all), most)]
}

// record is what an instance has of a kind, for a question of a type; nil: nothing.
func record(name, host string, asked uint16, r proxy.Record, i proxy.Instance) dns.RR {
	is := func(kind uint16) bool { return asked == kind || asked == dns.TypeANY }
	switch {
	case r.Type == "A" && is(dns.TypeA) && i.IPv4.Is4():
		return &dns.A{Hdr: header(name, dns.TypeA, r.TTL), A: i.IPv4.AsSlice()}
	case r.Type == "AAAA" && is(dns.TypeAAAA) && i.IPv6.Is6():
		return &dns.AAAA{Hdr: header(name, dns.TypeAAAA, r.TTL), AAAA: i.IPv6.AsSlice()}
	case r.Type == "SRV" && is(dns.TypeSRV) && i.Port != 0:
		return &dns.SRV{Hdr: header(name, dns.TypeSRV, r.TTL), Priority: 1, Weight: 1, Port: i.Port, Target: i.ID + "." + host + "."}
	case r.Type == "CNAME" && (is(dns.TypeCNAME) || asked == dns.TypeA || asked == dns.TypeAAAA) && i.CNAME != "":
		return &dns.CNAME{Hdr: header(name, dns.TypeCNAME, r.TTL), Target: dns.Fqdn(i.CNAME)}
	}
	return nil
}
