package sts

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
)

// Bounds of what a provider is asked for.
const (
	fetchTime = 5 * time.Second
	maxFetch  = 1 << 20
)

// fetch gets what a provider publishes: over HTTPS, from one whose certificate the machine trusts or the provider's row names by its
// thumbprint.
func fetch(ctx context.Context, p *model.OIDCProvider, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(s tls.ConnectionState) error { return trusted(s, p.Thumbprints) }}
	transport := &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxFetch+1))
	if err == nil && len(data) > maxFetch {
		err = fmt.Errorf("%s is larger than %d bytes", url, maxFetch)
	}
	return data, err
}

// trusted checks a server's certificates: by the machine's authorities, or because one of the chain has a thumbprint that was given and
// vouches for the rest.
func trusted(s tls.ConnectionState, thumbprints []string) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	leaf, rest := s.PeerCertificates[0], x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		rest.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: s.ServerName, Intermediates: rest})
	if err == nil {
		return nil
	}
	for _, c := range s.PeerCertificates {
		sum := sha1.Sum(c.Raw) // AWS's thumbprints are
		named := slices.ContainsFunc(thumbprints, func(t string) bool { return strings.EqualFold(t, hex.EncodeToString(sum[:])) })
		if !named {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(c)
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: s.ServerName, Intermediates: rest, Roots: roots}); err == nil {
			return nil
		}
	}
	return err
}
