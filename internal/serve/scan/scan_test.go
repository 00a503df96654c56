package scan_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/scan"
	"github.com/berthdev/berth/internal/serve/scan/vulndb"
	"github.com/berthdev/berth/internal/serve/scan/worker"
)

const entry = `{"id":"DEBIAN-CVE-2099-1","modified":"2026-11-01T00:00:00Z","upstream":["CVE-2099-1"],"summary":"overflow","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
 "affected":[{"package":{"ecosystem":"Debian:12","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.0.2-1"}]}]}],"references":[{"url":"https://example.com"}]}`

const npmEntry = `{"id":"GHSA-x","modified":"2026-11-02T00:00:00Z","aliases":["CVE-2099-2"],"details":"long","affected":[{"package":{"ecosystem":"npm","name":"left-pad"},"ranges":[{"type":"SEMVER","events":[{"introduced":"1.0.0"},{"last_affected":"1.3.0"}]}]}]}`

// archive is a zip of entries.
func archive(t *testing.T, entries ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i, e := range entries {
		w, _ := z.Create(string(rune('a'+i)) + ".json")
		_, _ = w.Write([]byte(e))
	}
	_ = z.Close()
	p := filepath.Join(t.TempDir(), "all.zip")
	if err := os.WriteFile(p, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func openDB(t *testing.T) *vulndb.DB {
	t.Helper()
	db, err := vulndb.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestDatabase(t *testing.T) {
	db, now := openDB(t), time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	if _, err := db.Import(archive(t, entry, npmEntry), now); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ecosystem, name, version string
		hit                      bool
	}{{"Debian:12", "openssl", "3.0.1-1", true}, {"Debian:12", "openssl", "3.0.2-1", false}, {"Debian:12", "openssl", "3.0.2~rc1-1", true}, {"Debian:11", "openssl", "1", false},
		{"npm", "left-pad", "1.3.0", true}, {"npm", "left-pad", "1.3.1", false}, {"npm", "left-pad", "0.9.0", false}, {"npm", "left", "1.2.0", false}} {
		got, _, err := db.Match(c.ecosystem, c.name, c.version)
		if err != nil || len(got) > 0 != c.hit {
			t.Errorf("%+v: %v %v", c, got, err)
		}
	}
	tracker := filepath.Join(t.TempDir(), "tracker.json")
	data := `{"openssl":{"CVE-2099-3":{"description":"d","releases":{"bookworm":{"status":"resolved","fixed_version":"3.1","urgency":"low"},"sid":{"fixed_version":"9"},"trixie":{"fixed_version":"0"}}}}}`
	if err := os.WriteFile(tracker, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Import(tracker, now); err != nil {
		t.Fatal(err)
	}
	if got, fixed, err := db.Match("Debian:12", "openssl", "3.0.1-1"); err != nil || len(got) != 1 || got[0].ID != "CVE-2099-3" || fixed[0] != "3.1" {
		t.Errorf("the tracker replaces: %+v %v %v", got, fixed, err)
	}
	if s, err := db.Status(); err != nil || len(s) != 2 || s[0].Ecosystem != "Debian:12" || s[0].Entries != 1 || !s[0].Imported.Equal(now) {
		t.Errorf("status %+v %v", s, err)
	}
	for _, bad := range []string{archive(t, `{"id":"x"}`), archive(t, `{`), archive(t)} {
		if _, err := db.Import(bad, now); err == nil {
			t.Error("it was imported")
		}
	}
}

func TestScores(t *testing.T) {
	for vector, want := range map[string]float64{"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H": 9.8, "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N": 6.1,
		"CVSS:3.0/AV:L/AC:H/PR:L/UI:N/S:U/C:H/I:N/A:N": 4.7, "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N": 0, "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H": 10} {
		if got, ok := vulndb.Score(vector); !ok || got != want {
			t.Errorf("%s is %v, want %v", vector, got, want)
		}
	}
	if _, ok := vulndb.Score("CVSS:4.0/AV:N"); ok {
		t.Error("a CVSS 4 vector was scored")
	}
}

func layer(t *testing.T, files map[string]string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(content))
	}
	_ = w.Close()
	return b.Bytes()
}

func TestFindings(t *testing.T) {
	data := layer(t, map[string]string{"etc/os-release": "ID=debian\nVERSION_ID=12\n", "app/node_modules/left-pad/package.json": `{"name":"left-pad","version":"1.2.0"}`,
		"var/lib/dpkg/status": "Package: libssl3\nSource: openssl\nVersion: 3.0.1-1\n"})
	db, enhanced, broken := openDB(t), false, false
	now := time.Now()
	kept := map[string][]byte{}
	s, err := scan.New(scan.Config{Keep: func(_ context.Context, img *model.Image, data []byte) error { kept[img.Digest] = data; return nil },
		Dir: t.TempDir(), DB: db, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler), Enhanced: func() bool { return enhanced },
		Layers: func(_ context.Context, img *model.Image) ([]scan.Layer, error) {
			if len(img.Children) > 0 {
				return nil, scan.ErrUnsupported
			}
			return []scan.Layer{{Digest: "sha256:l", Size: int64(len(data)), Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}}, nil
		},
		Work: func(_ context.Context, in io.Reader) ([]byte, error) {
			if broken {
				return nil, errors.New("signal: killed")
			}
			var out bytes.Buffer
			err := worker.Run(in, &out)
			return out.Bytes(), err
		}})
	if err != nil {
		t.Fatal(err)
	}
	img := &model.Image{Repository: "app", Digest: "sha256:" + strings.Repeat("a", 64)}
	if _, _, err := s.Findings(t.Context(), img); model.ErrorCode(err) != "ScanNotFoundException" {
		t.Errorf("before a scan: %v", err)
	}
	if err := s.Start(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	s.Wait()
	if status, _, err := s.Findings(t.Context(), img); err != nil || status.Status != types.ScanStatusFindingsUnavailable || !strings.Contains(*status.Description, "Debian:12") {
		t.Errorf("without a database: %+v %v", status, err)
	}
	if _, err := db.Import(archive(t, entry, npmEntry), now); err != nil {
		t.Fatal(err)
	}
	status, got, err := s.Findings(t.Context(), img) // the new database counts, no layer is read again
	if err != nil || status.Status != types.ScanStatusComplete || len(got.Findings) != 1 || *got.Findings[0].Name != "CVE-2099-1" ||
		got.Findings[0].Severity != types.FindingSeverityCritical || got.FindingSeverityCounts["CRITICAL"] != 1 || got.VulnerabilitySourceUpdatedAt == nil {
		t.Errorf("basic %+v %+v %v", status, got, err)
	}
	judged := func(max, says string) {
		t.Helper()
		status, got, err := s.Findings(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		if err := scan.Judge(model.RunRule{MaxSeverity: max}, status, got); (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("with findings up to %q: %v", max, err)
		}
	}
	judged("", "")
	judged("CRITICAL", "")
	judged("HIGH", "above HIGH, and this one has 1: CVE-2099-1 (CRITICAL) in openssl 3.0.1-1")
	judged("UNDEFINED", "above UNDEFINED, and this one has 1")
	enhanced = true
	judged("CRITICAL", "")
	judged("HIGH", "CVE-2099-1 (CRITICAL) in openssl 3.0.1-1")
	_, got, err = s.Findings(t.Context(), img)
	if err != nil || len(got.EnhancedFindings) != 2 || *got.EnhancedFindings[0].PackageVulnerabilityDetails.VulnerablePackages[0].FixedInVersion != "3.0.2-1" ||
		*got.EnhancedFindings[1].PackageVulnerabilityDetails.VulnerablePackages[0].PackageManager != "NODEPKG" {
		t.Errorf("enhanced %+v %v", got, err)
	}
	now = now.Add(8 * 24 * time.Hour)
	if status, _, _ := s.Findings(t.Context(), img); !strings.Contains(*status.Description, "8 days old") {
		t.Errorf("an old database: %s", *status.Description)
	}
	other := &model.Image{Repository: "app", Digest: "sha256:" + strings.Repeat("b", 64), Children: []string{"x"}}
	_ = s.Start(t.Context(), other)
	s.Wait()
	if status, _, err := s.Findings(t.Context(), other); err != nil || status.Status != types.ScanStatusUnsupportedImage {
		t.Errorf("an index: %+v %v", status, err)
	}
	broken = true
	killed := &model.Image{Repository: "app", Digest: "sha256:" + strings.Repeat("c", 64)}
	_ = s.Start(t.Context(), killed)
	s.Wait()
	if status, _, err := s.Findings(t.Context(), killed); err != nil || status.Status != types.ScanStatusFailed || !strings.Contains(*status.Description, "killed") {
		t.Errorf("a worker that was killed: %+v %v", status, err)
	}
	inv, err := s.Inventory(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := scan.New(scan.Config{Dir: t.TempDir(), DB: db, Now: time.Now, Log: slog.New(slog.DiscardHandler), Enhanced: func() bool { return false },
		Load: func(_ context.Context, img *model.Image) ([]byte, error) {
			if data, ok := kept[img.Digest]; ok {
				return data, nil
			}
			return nil, fs.ErrNotExist
		}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it has its own
		if status, got, err := elsewhere.Findings(t.Context(), img); err != nil || status.Status != types.ScanStatusComplete || len(got.Findings) != 1 {
			t.Errorf("on another server: %+v %+v %v", status, got, err)
		}
		kept = nil
	}
	if _, _, err := elsewhere.Findings(t.Context(), killed); model.ErrorCode(err) != "ScanNotFoundException" {
		t.Errorf("of what nobody scanned: %v", err)
	}
	doc, _ := json.Marshal(scan.SPDX("app:v1", img.Digest, inv))
	if !bytes.Contains(doc, []byte(`"pkg:deb/debian/libssl3@3.0.1-1"`)) || !bytes.Contains(doc, []byte(`"pkg:npm/left-pad@1.2.0"`)) {
		t.Errorf("SPDX %s", doc)
	}
}
