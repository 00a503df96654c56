package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/spf13/cobra"
)

func (c *common) console() *cobra.Command {
	open := false
	cmd := &cobra.Command{Use: "console", Short: "Print a link that logs in to the web console", Args: NoArgs,
		Long: "Print a link that logs in to the web console as whoever's access key this shell has. It is good once, for a minute.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := c.answering(cmd.Context())
			if err != nil {
				return err
			}
			link, err := t.consoleLink(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), link)
			if open {
				return browse(cmd.Context(), link)
			}
			return nil
		}}
	cmd.Flags().BoolVarP(&open, "open", "o", false, "open it in this machine's browser")
	return cmd
}

// consoleLink asks for a link, by a request that is signed as those of the API are.
func (t *Target) consoleLink(ctx context.Context) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(t.Endpoint, "/")+"/console/api/link", nil)
	if err != nil {
		return "", err
	}
	keys, err := t.Credentials.Retrieve(ctx)
	if err != nil {
		return "", err
	}
	empty := sha256.Sum256(nil)
	if err := v4.NewSigner().SignHTTP(ctx, keys, r, hex.EncodeToString(empty[:]), "berth-console", t.Region, time.Now()); err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", fmt.Errorf("ask for a link: %w", err)
	}
	defer res.Body.Close()
	var out struct{ Path, Message string }
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&out); err != nil || out.Path == "" {
		return "", fmt.Errorf("Berth gave no link (%s): %s", res.Status, out.Message)
	}
	return strings.TrimRight(t.Endpoint, "/") + out.Path, nil
}

// browse opens a link in the machine's browser.
func browse(ctx context.Context, link string) error {
	program := map[string][]string{"darwin": {"open"}, "windows": {"rundll32", "url.dll,FileProtocolHandler"}}[runtime.GOOS]
	if program == nil {
		program = []string{"xdg-open"}
	}
	cmd := exec.CommandContext(ctx, program[0], append(program[1:], link)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("open a browser: %w", err)
	}
	return cmd.Process.Release()
}
