package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/spf13/cobra"

	"github.com/berthdev/berth/internal/serve/build"
)

func (c *common) build() *cobra.Command {
	o := build.Options{Args: map[string]string{}}
	tag, noPush, progress := "", false, ""
	var args []string
	cmd := &cobra.Command{Use: "build -t REPO[:TAG] DIR", Short: "Build an image from a Dockerfile into Berth's registry", Args: Exactly(1),
		RunE: func(cmd *cobra.Command, pos []string) error {
			if tag == "" {
				return Usage(errors.New("say what to call the image: -t REPO[:TAG]"))
			}
			for _, a := range args {
				k, v, ok := strings.Cut(a, "=")
				if !ok {
					v = os.Getenv(k)
				}
				o.Args[k] = v
			}
			o.Epoch = os.Getenv("SOURCE_DATE_EPOCH")
			o.Dir, o.Push, o.Plain = pos[0], !noPush, progress == "plain"
			return c.runBuild(cmd, o, tag)
		}}
	f := cmd.Flags()
	f.StringVarP(&tag, "tag", "t", "", "REPO[:TAG] of the result")
	f.StringVarP(&o.Dockerfile, "file", "f", "", "the Dockerfile (default DIR/Dockerfile)")
	f.StringArrayVar(&args, "build-arg", nil, "K=V for an ARG of the Dockerfile")
	f.StringVar(&o.Target, "target", "", "stage to build")
	f.BoolVar(&o.NoCache, "no-cache", false, "run every step again")
	f.BoolVar(&noPush, "no-push", false, "leave the result in this node's image store only")
	f.StringArrayVar(&o.CacheTo, "cache-to", nil, "keep the build cache in REPO[:TAG], or as type=registry|local|inline,… says")
	f.StringArrayVar(&o.CacheFrom, "cache-from", nil, "use the build cache of REPO[:TAG], or as type=registry|local,… says")
	f.StringArrayVar(&o.Secrets, "secret", nil, "id=ID[,src=FILE|,env=VARIABLE] for RUN --mount=type=secret")
	f.StringArrayVar(&o.SSH, "ssh", nil, "default, or ID[=SOCKET|KEY], for RUN --mount=type=ssh")
	f.StringArrayVar(&o.Contexts, "build-context", nil, "NAME=DIR or NAME=docker-image://REFERENCE for FROM and COPY --from")
	f.BoolVar(&o.Provenance, "provenance", false, "attest how the image was made (SLSA provenance)")
	f.StringVar(&progress, "progress", "auto", "auto or plain")
	return cmd
}

func (c *common) runBuild(cmd *cobra.Command, o build.Options, tag string) error {
	ctx := cmd.Context()
	t, err := c.answering(ctx)
	if err != nil {
		return err
	}
	if t.Builder == "" && !o.Push {
		return Usage(errors.New("--no-push leaves the image on the machine that builds, and this Berth runs on another one"))
	}
	o.Registry = t.Registry
	ref, repo, _, err := build.Reference(o.Registry, tag)
	if err != nil {
		return Usage(err)
	}
	o.Image = ref
	client := ecr.NewFromConfig(t.config())
	if o.Push {
		if err := ensureRepository(ctx, client, repo); err != nil {
			return err
		}
	}
	for _, r := range o.Repositories(o.Registry) {
		if err := ensureRepository(ctx, client, r); err != nil {
			return err
		}
	}
	if o.Password, err = registryPassword(ctx, client); err != nil {
		return err
	}
	o.Dial = func(ctx context.Context) (net.Conn, error) { return t.dialBuilder(ctx, o.Password) }
	if conn, err := o.Dial(ctx); err != nil { // BuildKit's client would try again for long
		return fmt.Errorf("the builder does not answer: %w", err)
	} else if err := conn.Close(); err != nil {
		return err
	}
	res, err := build.Run(ctx, o, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if !o.Push {
		if err := c.machine.Built(ctx, res.Image); err != nil {
			return err
		}
	}
	fmt.Fprintln(cmd.OutOrStdout(), res.Image+"@"+res.Digest)
	return nil
}

func ensureRepository(ctx context.Context, client *ecr.Client, repo string) error {
	_, err := client.CreateRepository(ctx, &ecr.CreateRepositoryInput{RepositoryName: &repo})
	if _, exists := errors.AsType[*ecrtypes.RepositoryAlreadyExistsException](err); exists {
		return nil
	}
	return err
}

// registryPassword asks for a password of the user AWS.
func registryPassword(ctx context.Context, client *ecr.Client) (string, error) {
	out, err := client.GetAuthorizationToken(ctx, nil)
	if err != nil {
		return "", err
	}
	token, err := base64.StdEncoding.DecodeString(*out.AuthorizationData[0].AuthorizationToken)
	if err != nil {
		return "", err
	}
	_, password, _ := strings.Cut(string(token), ":")
	return password, nil
}
