package app

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsecr "github.com/aws/aws-sdk-go-v2/service/ecr"

	"github.com/berthdev/berth/internal/api/ecr"
	"github.com/berthdev/berth/internal/api/wire"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/serve/registry/expiry"
	"github.com/berthdev/berth/internal/serve/registry/records"
	elsewhere "github.com/berthdev/berth/internal/serve/registry/remote"
	"github.com/berthdev/berth/internal/serve/registry/s3store"
	"github.com/berthdev/berth/internal/serve/vault"
	"github.com/berthdev/berth/internal/timeouts"
)

// images is where images' blobs are: on the servers' disks, or in a bucket.
type images struct {
	storage registry.Storage
	records registry.Records
	bucket  *s3store.Store // nil: on disks
	scanning
}

// openRegistry makes the registry over the blobs of all servers, or over a bucket.
func (s *server) openRegistry(ctx context.Context, local *registry.Blobs) error {
	s.images = images{storage: s.blobs, records: local}
	if s.in.BlobStore != "" {
		bucket, err := s3store.Open(ctx, s.in.BlobStore, local, s.log.With("component", "registry"))
		if err != nil {
			return err
		}
		s.images = images{storage: bucket, records: bucket, bucket: bucket}
	}
	s.registry = registry.New(registry.Config{Store: s.store, Blobs: s.images.storage, Auth: s.keys, Scope: s.in.Scope(), Host: s.in.RegistryHost(), Now: time.Now,
		Log:       s.log.With("component", "registry"),
		Ring:      homeRing{s},
		Encrypt:   s.in.EncryptImages == "on",
		Pushed:    s.scanPushed,
		MayRun:    s.mayRun,
		Upstreams: func(rule *model.PullThroughRule) (registry.Upstream, error) { return s.upstream(rule), nil },
		Peers: func(region, id string) registry.Peer {
			if h := s.peerRegistry(region, id); h != nil {
				return h
			}
			return nil
		}})
	return s.openScanner()
}

// runRegistry does what the registry does by itself, until ctx is done.
func (s *server) runRegistry(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.replicateImages(ctx) })
	g.Go(func() error { // each server beside its own blobs; of a bucket, the leader
		k := &records.Keeper{Store: s.store, Where: s.images.records, Leads: s.leads, Log: s.log.With("component", "registry")}
		if s.images.bucket != nil {
			k.Writes = s.leads
		}
		return k.Run(ctx)
	})
	if s.images.bucket != nil {
		g.Go(func() error {
			return every(ctx, timeouts.BlobScrub, func() {
				if !s.leads() {
					return
				}
				if read, bad, err := registry.Scrub(ctx, s.images.bucket, scrubRate); err != nil && ctx.Err() == nil {
					s.log.Error("not all blobs were read again", "error", err)
				} else if len(bad) > 0 {
					s.log.Error("blobs were corrupt and set aside: push their images again", "read", read, "digests", bad)
				}
			})
		})
	}
	return g.Wait()
}

// ecr is the registry's API in a region.
func (s *server) ecr(r *region) *wire.Service {
	return ecr.New(ecr.Config{Store: r.store, Scope: r.scope, Manifests: s.registry, Layers: s.registry, Tokens: s.keys, Host: s.in.RegistryHost(), Now: time.Now,
		Upstreams: upstreams{s}, Peers: upstreams{s}, Keys: homeRing{s}, Encrypt: s.in.EncryptImages == "on", Scanner: s.images.scanner, Log: s.log.With("component", "ecr")})
}

// tidyRegistry removes what lifecycle policies expire and what nobody refers to; images and blobs go on the leader's word.
func (s *server) tidyRegistry(ctx context.Context) {
	if !s.leads() {
		return
	}
	if err := expiry.Run(ctx, s.store, time.Now(), s.log.With("component", "registry")); err != nil {
		s.log.Error("cannot apply the lifecycle policies", "error", err)
	}
	if n, bytes, err := s.registry.Collect(ctx); err != nil {
		s.log.Error("cannot collect unused blobs", "error", err)
	} else if n > 0 {
		s.log.Info("collected unused blobs", "blobs", n, "bytes", bytes)
	}
}

// replicateImages sends images to other registries while this server leads.
func (s *server) replicateImages(ctx context.Context) error {
	return every(ctx, timeouts.ReplicateLook, func() {
		if !s.leads() {
			return
		}
		if err := s.registry.Replicate(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("an image was not replicated; it is tried again", "error", err)
		}
	})
}

// homeRing is the ring of keys of the home region, where the registry is.
type homeRing struct{ *server }

// GenerateDataKey implements registry.Ring.
func (h homeRing) GenerateDataKey(ctx context.Context, keyID string, about map[string]string, n int) (plain, sealed []byte, keyARN string, err error) {
	return h.home().keys.GenerateDataKey(ctx, keyID, about, n)
}

// Decrypt implements registry.Ring.
func (h homeRing) Decrypt(ctx context.Context, sealed []byte, about map[string]string) (plain []byte, keyARN string, err error) {
	return h.home().keys.Decrypt(ctx, sealed, about)
}

// UsableKey implements ecr.Keys.
func (h homeRing) UsableKey(ctx context.Context, name string) (string, error) {
	_, _, arn, err := h.home().keys.GenerateDataKey(ctx, name, nil, 32)
	return arn, err
}

// upstreams are other registries as the API asks after them.
type upstreams struct{ *server }

// Ping implements ecr.Upstreams.
func (u upstreams) Ping(ctx context.Context, rule *model.PullThroughRule) error {
	return u.upstream(rule).Ping(ctx)
}

// Knows implements ecr.Peers.
func (u upstreams) Knows(region, id string) bool { return u.peerRegistry(region, id) != nil }

// upstream is the registry of a pull-through rule, whose credentials are a secret.
func (s *server) upstream(rule *model.PullThroughRule) *elsewhere.Host {
	host := *rule.Rule.UpstreamRegistryUrl
	scheme := "https://"
	if name, _, err := net.SplitHostPort(host); err == nil && (name == "localhost" || strings.HasPrefix(name, "127.")) {
		scheme = "http://" // as docker has it
	}
	return &elsewhere.Host{URL: scheme + host, Client: registryClient, Login: func(ctx context.Context) (user, password string, err error) {
		if rule.Rule.CredentialArn == nil {
			return "", "", nil
		}
		got, err := s.home().vault().Secret(ctx, vault.SecretQuery{ID: *rule.Rule.CredentialArn})
		if err != nil {
			return "", "", fmt.Errorf("the credentials of the upstream: %w", err)
		}
		var c struct {
			Username    string `json:"username"`
			AccessToken string `json:"accessToken"`
		}
		if err := json.Unmarshal(got.Value, &c); err != nil || c.AccessToken == "" {
			return "", "", errors.New("the credentials of the upstream are not a secret with username and accessToken")
		}
		return c.Username, c.AccessToken, nil
	}}
}

// registryClient speaks to other registries. A silent one is given up; blobs may take as long as they flow.
var registryClient = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: timeouts.UpstreamHeader,
	TLSHandshakeTimeout: timeouts.UpstreamHeader, MaxIdleConnsPerHost: 8, IdleConnTimeout: timeouts.RequestIdle,
	DialContext: (&net.Dialer{Timeout: timeouts.UpstreamHeader}).DialContext}}

// peerRow is a line of registry-peers.json: a registry that images may be replicated to, with a key for its GetAuthorizationToken.
type peerRow struct {
	Region          string `json:"region"`
	RegistryID      string `json:"registryId"`
	URL             string `json:"url"`         // of its API: another Berth's, or ECR's
	Registry        string `json:"registryUrl"` // of its /v2 where that is elsewhere
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
}

// peersFile is in the data directory, for the owner alone.
const peersFile = "registry-peers.json"

// peerRegistry is the other registry of a region and account, nil when there is none.
func (s *server) peerRegistry(region, id string) *elsewhere.Host {
	data, err := os.ReadFile(s.in.Path(peersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var rows []peerRow
	if err == nil {
		err = json.Unmarshal(data, &rows)
	}
	if err != nil {
		s.log.Error("cannot read which registries there are to replicate to", "file", s.in.Path(peersFile), "error", err)
		return nil
	}
	for _, row := range rows {
		if row.Region == region && row.RegistryID == id {
			return row.host()
		}
	}
	return nil
}

func (p peerRow) host() *elsewhere.Host {
	return &elsewhere.Host{URL: strings.TrimSuffix(cmp.Or(p.Registry, p.URL), "/"), Client: registryClient, Login: func(ctx context.Context) (user, password string, err error) {
		c := awsecr.New(awsecr.Options{Region: p.Region, BaseEndpoint: &p.URL, HTTPClient: registryClient,
			Credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider(p.AccessKeyID, p.SecretAccessKey, ""))})
		out, err := c.GetAuthorizationToken(ctx, nil)
		if err != nil || len(out.AuthorizationData) == 0 {
			return "", "", fmt.Errorf("log in at the registry in %s: %w", p.Region, err)
		}
		plain, err := base64.StdEncoding.DecodeString(*out.AuthorizationData[0].AuthorizationToken)
		user, password, _ = strings.Cut(string(plain), ":")
		return user, password, err
	}}
}
