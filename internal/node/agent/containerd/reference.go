package containerd

import (
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// normalize is the full form of an image reference: nginx is docker.io/library/nginx:latest. A reference with tag and digest
// keeps only the digest.
func normalize(ref string) (name, host string, err error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", "", fmt.Errorf("%q is not an image reference (%w); use REPOSITORY:TAG or REPOSITORY@sha256:…", ref, err)
	}
	return named.String(), reference.Domain(named), nil
}

// pinned tells whether a normalized reference names content by its digest, which can never change.
func pinned(name string) bool { return strings.Contains(name, "@") }

var ecrHost = regexp.MustCompile(`^[0-9]{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.com(\.cn)?|localhost(:[0-9]+)?)$`)

// isOwn tells whether a registry's name means Berth's own registry, which listens on address: the machine's loopback with its
// port, and every name that ECR would have.
func isOwn(host, address string) bool {
	_, own, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if ecrHost.MatchString(host) {
		_, port, err := net.SplitHostPort(host)
		return err != nil || port == own
	}
	name, port, err := net.SplitHostPort(host)
	return err == nil && port == own && isLoopback(name)
}

// isLoopback tells whether a host name, without its port, is this machine: its registry is spoken to without TLS.
func isLoopback(name string) bool {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	ip := net.ParseIP(name)
	return ip != nil && ip.IsLoopback()
}
