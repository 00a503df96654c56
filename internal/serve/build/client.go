// Package build builds images from Dockerfiles with BuildKit, in this process and on the node's own containerd: Server holds the
// BuildKit controller, Run is a client of it. The server speaks BuildKit's own protocol, so `docker buildx` can use it too.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Options is one build.
type Options struct {
	Dial       func(context.Context) (net.Conn, error) // to a Server
	Dir        string                                  // build context
	Dockerfile string                                  // path; "" for Dockerfile in Dir
	Image      string                                  // full reference of the result, such as localhost:4566/shop/web:v1
	Args       map[string]string
	Target     string
	NoCache    bool
	Push       bool
	// Registry is the host:port that Password is for.
	Registry string
	Password string
	More
	// Plain progress even on a terminal.
	Plain bool
}

// Result is a finished build.
type Result struct {
	Image  string
	Digest string // sha256:… of the manifest
}

// Run builds and writes progress, as BuildKit prints it, to w.
func Run(ctx context.Context, o Options, w io.Writer) (*Result, error) {
	solve, err := o.solveOpt()
	if err != nil {
		return nil, err
	}
	c, err := bkclient.New(ctx, "tcp://builder", bkclient.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return o.Dial(ctx) }))
	if err != nil {
		return nil, fmt.Errorf("reach the builder: %w", err)
	}
	defer c.Close()
	mode := progressui.AutoMode
	if o.Plain {
		mode = progressui.PlainMode
	}
	display, err := progressui.NewDisplay(w, mode)
	if err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	updates := make(chan *bkclient.SolveStatus)
	var res *bkclient.SolveResponse
	g.Go(func() (err error) {
		res, err = c.Solve(gctx, nil, *solve, updates)
		return err
	})
	g.Go(func() error {
		_, err := display.UpdateFrom(context.WithoutCancel(gctx), updates)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("build %s: %w", o.Image, err)
	}
	return &Result{Image: o.Image, Digest: res.ExporterResponse["containerimage.digest"]}, nil
}

func (o *Options) solveOpt() (*bkclient.SolveOpt, error) {
	file := o.Dockerfile
	if file == "" {
		file = filepath.Join(o.Dir, "Dockerfile")
	}
	if _, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("no Dockerfile: %w", err)
	}
	dir, err := fsutil.NewFS(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("build context: %w", err)
	}
	fileDir, err := fsutil.NewFS(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("Dockerfile: %w", err)
	}
	attrs := map[string]string{"filename": filepath.Base(file), "image-resolve-mode": "local"}
	for k, v := range o.Args {
		attrs["build-arg:"+k] = v
	}
	if o.Target != "" {
		attrs["target"] = o.Target
	}
	if o.NoCache {
		attrs["no-cache"] = ""
	}
	export := map[string]string{"name": o.Image, "unpack": "true", "oci-mediatypes": "true"}
	if o.Push {
		export["push"] = "true"
	}
	opt := &bkclient.SolveOpt{
		Frontend:      "dockerfile.v0",
		FrontendAttrs: attrs,
		LocalMounts:   map[string]fsutil.FS{"context": dir, "dockerfile": fileDir},
		Exports:       []bkclient.ExportEntry{{Type: bkclient.ExporterImage, Attrs: export}},
		Session:       []session.Attachable{&credentials{host: o.Registry, password: o.Password}},
	}
	return opt, o.add(opt, o.Registry)
}

// credentials answers BuildKit's question for a registry's login: Berth's own has one, all others are anonymous.
type credentials struct {
	auth.UnimplementedAuthServer
	host, password string
}

// Register implements session.Attachable.
func (c *credentials) Register(s *grpc.Server) { auth.RegisterAuthServer(s, c) }

// Credentials implements auth.AuthServer.
func (c *credentials) Credentials(_ context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	if req.Host == c.host {
		return &auth.CredentialsResponse{Username: "AWS", Secret: c.password}, nil
	}
	return &auth.CredentialsResponse{}, nil
}

// FetchToken implements auth.AuthServer; Berth's registry uses Basic credentials, not tokens.
func (c *credentials) FetchToken(context.Context, *auth.FetchTokenRequest) (*auth.FetchTokenResponse, error) {
	return nil, status.Error(codes.Unavailable, "no token service")
}

// Reference completes REPO[:TAG] to a full reference in the registry. A reference that names another host is refused: the result
// could not be pushed to Berth's registry.
func Reference(registry, s string) (ref, repo, tag string, err error) {
	s = strings.TrimPrefix(s, registry+"/")
	repo, tag = s, "latest"
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		repo, tag = s[:i], s[i+1:]
	}
	host, _, slash := strings.Cut(repo, "/")
	if slash && strings.ContainsAny(host, ".:") || repo == "" || tag == "" {
		return "", "", "", errors.New("-t wants REPO[:TAG] in Berth's registry " + registry + ", not " + s)
	}
	return registry + "/" + repo + ":" + tag, repo, tag, nil
}
