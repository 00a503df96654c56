package proxy

import "net/netip"

// Name is a name that tasks' resolver answers: a namespace's own, or that of a service in it, with its instances. The proxy carries it; who
// answers is serve/dns.
type Name struct {
	Key  string // the id of the namespace or service
	Host string // such as cart.shop.local, in lower case, without a final dot
	Zone string // the namespace's: Host, or its end
	// Ranges are those of the namespace's VPC: others are not told. None: everybody is.
	Ranges    []netip.Prefix
	SOATTL    uint32 // seconds: for how long a name that is not there may be remembered
	Records   []Record
	Weighted  bool // an answer names one instance
	Instances []Instance
}

// Record is a kind of records that a name has.
type Record struct {
	Type string // A, AAAA, SRV or CNAME
	TTL  uint32 // seconds
}

// Instance is one instance of a name.
type Instance struct {
	ID         string
	IPv4, IPv6 netip.Addr // the zero Addr: none
	Port       uint16
	CNAME      string
	Unhealthy  bool
}
