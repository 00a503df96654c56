package join

import (
	"errors"
	"time"
)

// The paths of the cluster port by which machines join and renew.
const (
	PathJoin      = "/v1/join"      // POST Request: anyone with a token
	PathRenew     = "/v1/renew"     // POST Renewal: a machine that is known
	PathMembers   = "/v1/members"   // GET Members: the same
	PathAuthority = "/v1/authority" // GET Authority: servers
)

// Request asks to be taken in.
type Request struct {
	TokenID string
	Secret  []byte
	CSR     []byte // DER
	Machine Machine
	Ports   []Port `json:",omitempty"`
	Nonce   []byte `json:",omitempty"` // what the server says to the ports, which answer Echo of it
}

// Check refuses what no machine of Berth's would say.
func (r *Request) Check() error {
	m := &r.Machine
	for _, s := range []string{m.ID, m.Hostname, m.Address, m.Version, m.Boot, m.Replace, r.TokenID} {
		if len(s) > 255 {
			return errors.New("the request says more of the machine than there can be to say")
		}
		for _, c := range s {
			if c < ' ' || c == 0x7f {
				return errors.New("the request has control characters in it")
			}
		}
	}
	switch {
	case len(r.Secret) != 16:
		return errors.New("the request has no secret")
	case len(r.CSR) == 0 || len(r.CSR) > 4096:
		return errors.New("the request has no certificate request")
	case len(r.Ports) > 0 && len(r.Nonce) != nonceSize:
		return errors.New("the request asks for a dial-back and does not say how it will be known")
	case len(r.Ports) > maxPorts:
		return errors.New("the request asks for too many ports to be tried")
	}
	for _, p := range r.Ports {
		if p.Network != "tcp" && p.Network != "udp" || p.Number == 0 {
			return errors.New("the request asks for a port to be tried that is none")
		}
	}
	return nil
}

// Answer takes a machine in.
type Answer struct {
	Members
	ID      string
	Cert    []byte // DER
	Site    Site
	Now     time.Time
	Address string
	Ports   []Port `json:",omitempty"`
	Again   bool   `json:",omitempty"`
	BeatKey []byte
	// For servers.
	Authority *Authority `json:",omitempty"`
	RootKey   []byte     `json:",omitempty"`
}

// Members is whom to believe and whom to ask.
type Members struct {
	Roots   string   // PEM of the authorities; the last one signs
	Servers []string // host:port
}

// Authority is what a server signs with.
type Authority struct {
	Cert, Key string // PEM
	BeatKey   []byte
}

// Renewal asks for a new certificate for the same key.
type Renewal struct{ CSR []byte }

// Renewed is the answer.
type Renewed struct {
	Members
	Cert []byte // DER
}
