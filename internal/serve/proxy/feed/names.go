package feed

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/proxy"
	"github.com/berthdev/berth/internal/store"
)

// names are those that tasks' resolvers answer: private namespaces and their services.
func names(r store.Reader) (all []proxy.Name) {
	for ns := range store.DiscoveryNamespaces.Scan(r, "") {
		if n, ok := name(r, ns.ID); ok {
			all = append(all, n)
		}
		for s := range store.DiscoveryServices.By(r, store.ByNamespace, ns.ID) {
			if n, ok := name(r, s.ID); ok {
				all = append(all, n)
			}
		}
	}
	return all
}

// name is what a namespace's or service's id stands for; ok is false when that has no name in DNS.
func name(r store.Reader, key string) (n proxy.Name, ok bool) {
	if ns, is := store.DiscoveryNamespaces.Get(r, key); is {
		return proxy.Name{Key: key, Host: ns.Name, Zone: ns.Name, SOATTL: uint32(ns.SOATTL)}, ns.Type == model.NamespacePrivate
	}
	s, ok := store.DiscoveryServices.Get(r, key)
	if !ok || len(s.Records) == 0 {
		return n, false
	}
	ns, ok := store.DiscoveryNamespaces.Get(r, s.Namespace)
	if !ok || ns.Type != model.NamespacePrivate {
		return n, false
	}
	n = proxy.Name{Key: key, Host: strings.ToLower(s.Name) + "." + ns.Name, Zone: ns.Name, SOATTL: uint32(ns.SOATTL), Weighted: s.Weighted}
	for _, d := range s.Records {
		n.Records = append(n.Records, proxy.Record{Type: d.Type, TTL: uint32(d.TTL)})
	}
	for i := range store.DiscoveryInstances.Scan(r, s.ID+"/") {
		one := proxy.Instance{ID: i.ID, CNAME: i.Attributes[model.AttributeCNAME], Unhealthy: i.Unhealthy}
		one.IPv4, _ = netip.ParseAddr(i.Attributes[model.AttributeIPv4]) // both were checked, or are absent
		one.IPv6, _ = netip.ParseAddr(i.Attributes[model.AttributeIPv6])
		if port, err := strconv.ParseUint(i.Attributes[model.AttributePort], 10, 16); err == nil {
			one.Port = uint16(port)
		}
		n.Instances = append(n.Instances, one)
	}
	return n, true
}

// name notes which names a row concerns.
func (t touched) name(r store.Reader, row any) {
	switch row := row.(type) {
	case *model.DiscoveryNamespace:
		t.names[row.ID] = true
		for _, s := range slices.Collect(store.DiscoveryServices.By(r, store.ByNamespace, row.ID)) {
			t.names[s.ID] = true
		}
	case *model.DiscoveryService:
		t.names[row.ID] = true
	case *model.DiscoveryInstance:
		t.names[row.Service] = true
	}
}
