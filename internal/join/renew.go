package join

import (
	"context"
	"fmt"
	"net/http"

	"github.com/berthdev/berth/internal/pki"
)

// Renew asks a server for a new certificate for the identity's key; an expired one is good enough to ask. servers are where the cluster's
// servers are now.
func Renew(ctx context.Context, client *http.Client, id *pki.Identity) (renewed *pki.Identity, servers []string, err error) {
	csr, err := pki.Request(id.Key)
	if err != nil {
		return nil, nil, err
	}
	var answer Renewed
	if err := Post(ctx, client, PathRenew, Renewal{CSR: csr}, &answer); err != nil {
		return nil, nil, err
	}
	roots, err := pki.DecodeCerts([]byte(answer.Roots))
	if err != nil {
		return nil, nil, fmt.Errorf("the server's answer has no authorities: %w", err)
	}
	renewed, err = pki.NewIdentity(id.Key, answer.Cert, roots)
	if err != nil {
		return nil, nil, fmt.Errorf("the server's answer has no certificate for this machine: %w", err)
	}
	if renewed.Peer != id.Peer {
		return nil, nil, fmt.Errorf("the server calls this machine %s, which is %s", renewed.Peer, id.Peer)
	}
	return renewed, answer.Servers, nil
}
