package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/api/ecr"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/scan"
	"github.com/berthdev/berth/internal/serve/scan/vulndb"
	"github.com/berthdev/berth/internal/serve/scan/worker"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// scanning is what finds vulnerabilities on this server.
type scanning struct {
	vulns   *vulndb.DB
	scanner *scan.Scanner
}

// openScanner opens the database of vulnerabilities and the inventories of images.
func (s *server) openScanner() (err error) {
	if s.images.vulns, err = vulndb.Open(s.in.Path("vulndb")); err != nil {
		return err
	}
	s.images.scanner, err = scan.New(scan.Config{Dir: s.in.Path("inventories"), DB: s.images.vulns, Layers: s.layersOf, Keep: s.registry.KeepInventory, Load: s.registry.Inventory, Work: scanWorker, Now: time.Now,
		Log: s.log.With("component", "scan"), Enhanced: func() bool { return s.scanSettings().ScanType == types.ScanTypeEnhanced }})
	return err
}

func (s *server) closeScanner() {
	if s.images.vulns == nil {
		return
	}
	if err := s.images.vulns.Close(); err != nil {
		s.log.Error("cannot close the vulnerability database", "error", err)
	}
}

func (s *server) scanSettings() (c types.RegistryScanningConfiguration) {
	s.store.View(func(r store.Reader) {
		if row, ok := store.RegistrySettings.Get(r, model.RegistryKey); ok && row.Scanning != nil {
			c = *row.Scanning
		}
	})
	return c
}

// layersOf are the layers that a scan reads.
func (s *server) layersOf(ctx context.Context, img *model.Image) ([]scan.Layer, error) {
	m, err := s.registry.GetManifest(ctx, img.Repository, img.Digest)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Layers []struct {
			MediaType string `json:"mediaType"`
			Digest    string `json:"digest"`
		} `json:"layers"`
	}
	if err := json.Unmarshal(m.Content, &doc); err != nil {
		return nil, err
	}
	var all []scan.Layer
	for _, l := range doc.Layers {
		if !strings.Contains(l.MediaType, ".tar") {
			continue
		}
		size, err := s.registry.Layer(ctx, img.Repository, l.Digest)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		all = append(all, scan.Layer{Digest: l.Digest, Size: size, Open: func(ctx context.Context) (io.ReadCloser, error) {
			return s.registry.OpenLayer(ctx, img.Repository, l.Digest)
		}})
	}
	if len(all) == 0 {
		return nil, scan.ErrUnsupported
	}
	return all, nil
}

// scanWorker runs `berth scan-worker`: no network, bounded memory and time, and nothing in its environment.
func scanWorker(ctx context.Context, in io.Reader) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.Scan)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "scan-worker")
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &said
	cmd.Env = []string{"GOMEMLIMIT=768MiB", "GOMAXPROCS=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	cmd.WaitDelay = timeouts.ScanEnd
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(said.String())
		if i := strings.IndexByte(text, '\n'); i >= 0 {
			text = text[:i]
		}
		return nil, errors.Join(fmt.Errorf("the scan's worker: %w %s", err, text), context.Cause(ctx))
	}
	return out.Bytes(), nil
}

// ScanWorker is `berth scan-worker`.
func ScanWorker(in io.Reader, out io.Writer) error {
	for limit, n := range map[int]uint64{syscall.RLIMIT_DATA: 1 << 30, syscall.RLIMIT_CPU: 600, syscall.RLIMIT_NOFILE: 64, syscall.RLIMIT_FSIZE: 0, syscall.RLIMIT_CORE: 0} {
		if err := syscall.Setrlimit(limit, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("bound the worker: %w", err)
		}
	}
	return worker.Run(in, out)
}

// scanPushed has an image scanned that was pushed, where that is wished.
func (s *server) scanPushed(ctx context.Context, img *model.Image) {
	if s.images.scanner == nil || len(img.Blobs) == 0 || img.Subject != "" {
		return
	}
	var wished bool
	s.store.View(func(r store.Reader) {
		if repo, ok := store.Repositories.Get(r, img.Repository); ok {
			wished = ecr.ScansOnPush(repo, s.scanSettings())
		}
	})
	if !wished && s.runRules().rule() == nil {
		return
	}
	if _, err := s.images.scanner.Inventory(ctx, img); err == nil {
		return // what it has is known
	}
	_ = s.images.scanner.Start(ctx, img) // it is being scanned already
}

// serveScanAdmin answers berth vulndb and berth image sbom.
func (s *server) serveScanAdmin(mux *http.ServeMux) {
	serve := func(act func(r *http.Request) (any, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			v, err := act(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v) // who has gone asks again
		}
	}
	mux.HandleFunc("GET /vulndb", serve(func(*http.Request) (any, error) { return s.images.vulns.Status() }))
	mux.HandleFunc("POST /vulndb/import", serve(func(r *http.Request) (any, error) { return s.images.vulns.Import(r.FormValue("file"), time.Now()) }))
	mux.HandleFunc("GET /registry/sbom", serve(func(r *http.Request) (any, error) {
		return s.sbom(r.Context(), r.FormValue("image"))
	}))
}

// sbom is that of an image, which is scanned first if it was not.
func (s *server) sbom(ctx context.Context, image string) (any, error) {
	repo, reference, ok := strings.Cut(image, "@")
	if !ok {
		if repo, reference, ok = strings.Cut(image, ":"); !ok {
			reference = "latest"
		}
	}
	m, err := s.registry.GetManifest(ctx, repo, reference)
	if err != nil {
		return nil, err
	}
	img := &model.Image{Repository: repo, Digest: m.Digest}
	if _, err := s.images.scanner.Inventory(ctx, img); err != nil {
		_ = s.images.scanner.Start(ctx, img) // or it is being scanned
		s.images.scanner.Wait()
	}
	inv, err := s.images.scanner.Inventory(ctx, img)
	if err != nil {
		return nil, fmt.Errorf("%s was not scanned; the server's log says why", image)
	}
	return scan.SPDX(image, m.Digest, inv), nil
}

// ImportVulnerabilities reads files into the database of the server on this machine.
func ImportVulnerabilities(ctx context.Context, dir string, files []string, out io.Writer) error {
	for _, file := range files {
		path, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		var got []vulndb.Source
		if err := askAdmin(ctx, dir, http.MethodPost, "/vulndb/import?file="+url.QueryEscape(path), &got); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, s := range got {
			fmt.Fprintf(out, "%s: %d entries\n", s.Ecosystem, s.Entries)
		}
	}
	return nil
}

// ShowVulnerabilities says what the database has.
func ShowVulnerabilities(ctx context.Context, dir string, out io.Writer) error {
	var all []vulndb.Source
	if err := askAdmin(ctx, dir, http.MethodGet, "/vulndb", &all); err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(out, "nothing was imported: berth vulndb import FILE… takes OSV's all.zip of an ecosystem and the Debian tracker's JSON")
	}
	for _, s := range all {
		fmt.Fprintf(out, "%-20s %7d entries  imported %s  newest change %s\n", s.Ecosystem, s.Entries, s.Imported.Format(time.DateOnly), s.Newest.Format(time.DateOnly))
	}
	return nil
}

// ShowSBOM writes an image's SPDX document.
func ShowSBOM(ctx context.Context, dir, image string, out io.Writer) error {
	var doc json.RawMessage
	if err := askAdmin(ctx, dir, http.MethodGet, "/registry/sbom?image="+url.QueryEscape(image), &doc); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, doc, "", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, b.String())
	return err
}
