package containerd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	ctd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/node/agent"
	"github.com/berthdev/berth/internal/timeouts"
)

const cannotPull = "CannotPullContainerError"

const (
	attempts = 4 // to reach a registry
)

// Pull implements agent.Images.
func (m *Images) Pull(ctx context.Context, ref string) (agent.Image, error) {
	return m.pull(ctx, ref, nil)
}

// PullAs implements agent.Images.
func (m *Images) PullAs(ctx context.Context, ref string, as model.RegistryLogin) (agent.Image, error) {
	return m.pull(ctx, ref, &as)
}

func (m *Images) pull(ctx context.Context, ref string, as *model.RegistryLogin) (agent.Image, error) {
	ctx = m.r.context(ctx)
	name, host, err := normalize(ref)
	if err != nil {
		return agent.Image{}, &agent.Error{Name: cannotPull, Message: err.Error()}
	}
	m.noteUse(name) // before anything is looked at: it may be old, and about to be collected
	image, here, err := m.local(ctx, name)
	if err != nil {
		return agent.Image{}, failure(cannotPull, "look for the image "+name, err)
	}
	own := isOwn(host, m.c.Registry)
	if !here || m.asks(image, name, own) {
		if image, err = m.fetch(ctx, name, host, own, image, here, as); err != nil {
			return agent.Image{}, err
		}
	}
	result, err := m.ready(ctx, image)
	if err != nil {
		return agent.Image{}, failure(cannotPull, "unpack the image "+name, err)
	}
	return result, nil
}

// asks tells whether a registry is asked for an image that this machine has.
func (m *Images) asks(image images.Image, name string, own bool) bool {
	switch {
	case pinned(name):
		return m.c.Behavior == PullAlways && image.Labels[labelOrigin] == "" && !own
	case own:
		return true
	case image.Labels[labelOrigin] != "":
		return false
	}
	return m.c.Behavior == PullDefault || m.c.Behavior == PullAlways
}

// fetch brings the image from its registry, or falls back to the one that is here.
func (m *Images) fetch(ctx context.Context, name, host string, own bool, image images.Image, here bool, as *model.RegistryLogin) (images.Image, error) {
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: m.hosts(own, as)})
	got, err := m.retry(ctx, here, func(ctx context.Context) (images.Image, error) {
		return m.once(ctx, resolver, name, image,
			here)
	})
	if err == nil {
		return got, nil
	}
	if ctx.Err() != nil {
		return images.Image{}, ctx.Err()
	}
	if here && m.fallsBack(image, own, err) {
		m.log.Warn("using the image that this machine has, because its registry did not give it", "image", name, "error", err)
		return image, nil
	}
	return images.Image{}, &agent.Error{Name: cannotPull, Message: pullMessage(name, host, own, err)}
}

// fallsBack tells whether the machine's own copy will do. Of Berth's own registry, "there is no such image" is the truth, but
// for images that were imported or built under its name and never pushed.
func (m *Images) fallsBack(image images.Image, own bool, err error) bool {
	if _, refused := errors.AsType[*refusedError](err); refused {
		return false
	}
	if own && errdefs.IsNotFound(err) {
		return image.Labels[labelOrigin] != ""
	}
	return own || m.c.Behavior != PullAlways
}

// once asks the registry for the image's digest and downloads it when it differs from what is here.
func (m *Images) once(ctx context.Context, resolver remotes.Resolver, name string, image images.Image,
	here bool) (images.Image, error) {
	asking := ctx
	if here {
		var cancel context.CancelFunc
		asking, cancel = context.WithTimeout(ctx, timeouts.PullAsk)
		defer cancel()
	}
	_, desc, err := resolver.Resolve(asking, name)
	if err != nil {
		return images.Image{}, err
	}
	if here && desc.Digest == image.Target.Digest {
		return image, nil
	}
	pulled, err := m.r.client.Pull(ctx, name, ctd.WithResolver(resolver), ctd.WithPullUnpack,
		ctd.WithPullSnapshotter(m.r.c.Snapshotter), ctd.WithImageHandler(images.HandlerFunc(boundDocument)))
	if err != nil {
		return images.Image{}, err
	}
	return pulled.Metadata(), nil
}

// retry repeats op while it fails for reasons that may pass. With a copy at hand there is no point in waiting.
func (m *Images) retry(ctx context.Context, here bool, op func(context.Context) (images.Image, error)) (images.Image, error) {
	pause := timeouts.PullFirstPause
	for attempt := 1; ; attempt++ {
		image, err := op(ctx)
		if err == nil || ctx.Err() != nil || here || attempt == attempts || !worthRetrying(err) {
			return image, err
		}
		m.log.Info("a pull failed; trying again", "attempt", attempt, "error", err)
		select {
		case <-ctx.Done():
			return image, ctx.Err()
		case <-time.After(pause + rand.N(pause/2)):
		}
		pause *= 2
	}
}

// worthRetrying tells failures of the network and of overloaded registries from answers that will not change.
func worthRetrying(err error) bool {
	if _, refused := errors.AsType[*refusedError](err); refused {
		return false
	}
	if errors.Is(err, errTooLarge) || errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) || errors.Is(err, docker.ErrInvalidAuthorization) {
		return false
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return false
	}
	if s, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok {
		return s.StatusCode >= 500 || s.StatusCode == http.StatusTooManyRequests
	}
	return !strings.Contains(err.Error(), "no match for platform")
}

// pullMessage is the sentence that the user sees: what failed, and what to do.
func pullMessage(name, host string, own bool, err error) string {
	status, _ := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	refused, isRefused := errors.AsType[*refusedError](err)
	dns, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case isRefused:
		return fmt.Sprintf("pull %s: %s", name, refused.why)
	case errors.Is(err, errTooLarge):
		return fmt.Sprintf("pull %s: %s", name, plain(err))
	case errdefs.IsNotFound(err) && own:
		return fmt.Sprintf("pull %s: Berth's registry has no such image; push it with docker push or berth build -t, or correct the name",
			name)
	case errdefs.IsNotFound(err) && strings.Contains(err.Error(), "no match for platform"):
		return fmt.Sprintf("pull %s: the image has no variant for this machine's platform; build it for this platform", name)
	case errdefs.IsNotFound(err):
		return fmt.Sprintf("pull %s: the registry %s has no such image; correct the name or tag, or import the image with: "+
			"berth image import FILE.tar", name, host)
	case status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden ||
		errors.Is(err, docker.ErrInvalidAuthorization):
		return fmt.Sprintf("pull %s: the registry %s refuses access, because the image is private or does not exist; import it with "+
			"berth image import FILE.tar, or push it to Berth's registry", name, host)
	case status.StatusCode == http.StatusTooManyRequests:
		return fmt.Sprintf("pull %s: the registry %s limits the rate of pulls; try again later, or push the image to Berth's registry",
			name, host)
	case isDNS:
		return fmt.Sprintf("pull %s: the name of the registry %s cannot be resolved (%v); check the network and DNS of this "+
			"machine, or import the image with: berth image import FILE.tar", name, host, dns.Err)
	}
	return fmt.Sprintf("pull %s from %s failed: %s; check that this machine reaches the registry, or import the image with: "+
		"berth image import FILE.tar", name, host, plain(err))
}

// hosts says how registries are reached: Berth's own by its address whatever it is called, loopback ones without TLS.
func (m *Images) hosts(own bool, as *model.RegistryLogin) docker.RegistryHosts {
	if own {
		return func(host string) ([]docker.RegistryHost, error) {
			return []docker.RegistryHost{{Client: m.ownClient(), Authorizer: m.login(), Host: host, Scheme: "http", Path: "/v2",
				Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve}}, nil
		}
	}
	client := &http.Client{Transport: remoteTransport()}
	return docker.ConfigureDefaultRegistries(
		docker.WithClient(client),
		docker.WithAuthorizer(docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthCreds(credentials(as)))),
		docker.WithPlainHTTP(func(host string) (bool, error) {
			name, _, err := net.SplitHostPort(host)
			if err != nil {
				name = host
			}
			return isLoopback(name), nil
		}))
}

// credentials are what a registry is told; nobody's, where there are none.
func credentials(as *model.RegistryLogin) func(host string) (user, password string, err error) {
	return func(string) (string, string, error) {
		if as == nil {
			return "", "", nil
		}
		return as.Username, as.Password, nil
	}
}

// remoteTransport bounds each step of reaching a registry, but not the time a layer takes.
func remoteTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: timeouts.PullDial, KeepAlive: timeouts.PullKeepAlive}).DialContext,
		TLSHandshakeTimeout:   timeouts.PullHandshake,
		ResponseHeaderTimeout: timeouts.PullAnswer,
		IdleConnTimeout:       timeouts.PullIdle,
		MaxIdleConns:          10,
		ForceAttemptHTTP2:     true,
	}
}

// refusedError says why Berth's registry gives an image to nobody who would run it.
type refusedError struct{ why string }

// Error implements error.
func (e *refusedError) Error() string { return e.why }

// running says that what is pulled will be run, and finds out when it may not.
type running struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t running) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set(model.HeaderRuns, "1")
	answer, err := t.RoundTripper.RoundTrip(req)
	if err != nil || answer.Header.Get(model.HeaderRefused) == "" {
		return answer, err
	}
	answer.Body.Close()
	return nil, &refusedError{answer.Header.Get(model.HeaderRefused)}
}

// ownClient dials Berth's registry, whatever name the request is for.
func (m *Images) ownClient() *http.Client {
	if m.c.Servers != nil {
		return &http.Client{Transport: running{m.c.Servers}}
	}
	t := remoteTransport()
	t.Proxy = nil
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", m.c.Registry)
	}
	return &http.Client{Transport: running{t}}
}

// login authorizes every request to Berth's registry.
func (m *Images) login() docker.Authorizer {
	if m.c.Servers != nil { // the certificate says who this is
		return basic{}
	}
	return basic{m.c.Login}
}

type basic struct {
	login func(context.Context) (string, string, error)
}

// Authorize implements docker.Authorizer.
func (b basic) Authorize(ctx context.Context, req *http.Request) error {
	if b.login == nil {
		return nil
	}
	user, password, err := b.login(ctx)
	if err != nil {
		return fmt.Errorf("log in to Berth's registry: %w", err)
	}
	req.SetBasicAuth(user, password)
	return nil
}

// AddResponses implements docker.Authorizer: there is no second way to log in.
func (basic) AddResponses(context.Context, []*http.Response) error {
	return fmt.Errorf("Berth's registry refuses its own login: %w", docker.ErrInvalidAuthorization)
}

// ready makes sure that the image is unpacked, and notes its use.
func (m *Images) ready(ctx context.Context, image images.Image) (agent.Image, error) {
	if err := m.unpack(ctx, image); err != nil {
		return agent.Image{}, err
	}
	config, err := imageConfigOf(ctx, m.r.client.ContentStore(), m.r.images, image.Target)
	if err != nil {
		return agent.Image{}, err
	}
	now := m.c.Now()
	if used, err := time.Parse(time.RFC3339, image.Labels[labelUsed]); err != nil || now.Sub(used) > timeouts.ImageUsed {
		err := m.label(ctx, image, map[string]string{labelUsed: now.UTC().Format(time.RFC3339)})
		if err != nil && !errdefs.IsNotFound(err) {
			m.log.Warn("the use of an image cannot be noted", "image", image.Name, "error", err)
		}
	}
	return agent.Image{Ref: image.Name, Digest: image.Target.Digest.String(), StopSignal: config.StopSignal}, nil
}
