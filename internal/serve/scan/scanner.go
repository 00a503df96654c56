package scan

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/scan/vulndb"
)

// Layer is one layer of an image.
type Layer struct {
	Digest string
	Size   int64
	Open   func(ctx context.Context) (io.ReadCloser, error)
}

// Config is what a Scanner needs.
type Config struct {
	Dir string // of inventories
	DB  *vulndb.DB
	// Layers are those of an image, the lowest first; an error of ErrUnsupported for what has none, such as an index.
	Layers func(ctx context.Context, img *model.Image) ([]Layer, error)
	// Work runs a worker on its input and returns what it wrote.
	Work func(ctx context.Context, in io.Reader) ([]byte, error)
	// Keep keeps an image's inventory where other servers find it, and Load finds it, an fs.ErrNotExist when it is not there; nil: they
	// are this server's only.
	Keep func(ctx context.Context, img *model.Image, data []byte) error
	Load func(ctx context.Context, img *model.Image) ([]byte, error)
	// Enhanced tells whether findings are to be of all packages, in the enhanced form.
	Enhanced func() bool
	Now      func() time.Time
	Log      *slog.Logger
}

// ErrUnsupported says that an image cannot be scanned.
var ErrUnsupported = errors.New("the image has no layers with packages: an index is scanned by its images")

// Scanner scans images one after another.
type Scanner struct {
	Config
	turn sync.Mutex
	work sync.WaitGroup

	mu      sync.Mutex
	running map[string]bool   // by digest
	failed  map[string]string // why, by digest
}

// New makes a Scanner.
func New(c Config) (*Scanner, error) {
	s := &Scanner{Config: c, running: map[string]bool{}, failed: map[string]string{}}
	return s, os.MkdirAll(c.Dir, 0o700)
}

// Start has an image scanned; it returns at once.
func (s *Scanner) Start(ctx context.Context, img *model.Image) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[img.Digest] {
		return model.Errorf("LimitExceededException", "The scan quota per image has been exceeded. Wait and try again.")
	}
	s.running[img.Digest] = true
	s.work.Go(func() {
		err := s.scan(context.WithoutCancel(ctx), img)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, img.Digest)
		delete(s.failed, img.Digest)
		if err != nil {
			s.failed[img.Digest] = err.Error()
			s.Log.Warn("an image was not scanned", "image", img.Key(), "error", err)
		}
	})
	return nil
}

// Wait returns when what was started has ended.
func (s *Scanner) Wait() { s.work.Wait() }

func (s *Scanner) file(digest string) string {
	return filepath.Join(s.Dir, strings.ReplaceAll(digest, ":", "-")+".json")
}

// scan has the worker read the image, and keeps what it found.
func (s *Scanner) scan(ctx context.Context, img *model.Image) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	layers, err := s.Layers(ctx, img)
	if err != nil {
		return err
	}
	in, feed := io.Pipe()
	go func() { feed.CloseWithError(send(ctx, feed, layers)) }()
	out, err := s.Work(ctx, in)
	in.CloseWithError(io.ErrClosedPipe)
	if err != nil {
		return err
	}
	var inv Inventory
	if err := json.Unmarshal(out, &inv); err != nil {
		return fmt.Errorf("the worker's answer: %w", err)
	}
	inv.At = s.Now()
	data, err := json.Marshal(inv)
	if err != nil {
		return err
	}
	if s.Keep != nil {
		if err := s.Keep(ctx, img, data); err != nil {
			s.Log.Warn("what an image has is known to this server only", "image", img.Key(), "error", err)
		}
	}
	return s.write(img.Digest, data)
}

// write keeps an inventory beside this server.
func (s *Scanner) write(digest string, data []byte) error {
	temp, err := os.CreateTemp(s.Dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	return errors.Join(err, temp.Close(), os.Rename(temp.Name(), s.file(digest)))
}

func send(ctx context.Context, w io.Writer, layers []Layer) error {
	for _, l := range layers {
		head, err := json.Marshal(map[string]any{"digest": l.Digest, "size": l.Size})
		if err != nil {
			return err
		}
		if _, err := w.Write(append(head, '\n')); err != nil {
			return err
		}
		r, err := l.Open(ctx)
		if err != nil {
			return err
		}
		_, err = io.CopyN(w, r, l.Size)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Inventory is what an image has; an fs.ErrNotExist before it was scanned.
func (s *Scanner) Inventory(ctx context.Context, img *model.Image) (*Inventory, error) {
	data, err := os.ReadFile(s.file(img.Digest))
	if errors.Is(err, fs.ErrNotExist) && s.Load != nil { // another server may have scanned it
		if data, err = s.Load(ctx, img); err == nil {
			err = s.write(img.Digest, data)
		}
	}
	if err != nil {
		return nil, err
	}
	var inv Inventory
	return &inv, json.Unmarshal(data, &inv)
}

// Findings matches what an image has with the database as it is now.
func (s *Scanner) Findings(ctx context.Context, img *model.Image) (*types.ImageScanStatus, *types.ImageScanFindings, error) {
	s.mu.Lock()
	running, why := s.running[img.Digest], s.failed[img.Digest]
	s.mu.Unlock()
	if running {
		return &types.ImageScanStatus{Status: types.ScanStatusInProgress}, nil, nil
	}
	inv, err := s.Inventory(ctx, img)
	switch {
	case errors.Is(err, fs.ErrNotExist) && why == "":
		return nil, nil, model.Errorf("ScanNotFoundException", "none")
	case errors.Is(err, fs.ErrNotExist) && strings.Contains(why, ErrUnsupported.Error()):
		return &types.ImageScanStatus{Status: types.ScanStatusUnsupportedImage, Description: &why}, nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return &types.ImageScanStatus{Status: types.ScanStatusFailed, Description: &why}, nil, nil
	case err != nil:
		return nil, nil, err
	}
	return s.match(img, inv)
}

// hit is one vulnerability of one package.
type hit struct {
	p        Package
	v        vulndb.Vulnerability
	fixed    string
	severity types.FindingSeverity
	score    float64
}

// stale is the age from which a database is called old.
const stale = 7 * 24 * time.Hour

func (s *Scanner) match(img *model.Image, inv *Inventory) (*types.ImageScanStatus, *types.ImageScanFindings, error) {
	enhanced := s.Enhanced()
	sources, err := s.DB.Status()
	if err != nil {
		return nil, nil, err
	}
	have := map[string]vulndb.Source{}
	for _, src := range sources {
		have[src.Ecosystem] = src
	}
	var hits []hit
	lacking, oldest := map[string]bool{}, time.Time{}
	for _, p := range inv.Packages {
		if !p.OS() && !enhanced {
			continue
		}
		src, ok := have[p.Ecosystem]
		if !ok {
			lacking[p.Ecosystem] = true
			continue
		}
		if oldest.IsZero() || src.Imported.Before(oldest) {
			oldest = src.Imported
		}
		found, fixed, err := s.DB.Match(p.Ecosystem, p.Name, p.Version)
		if err != nil {
			return nil, nil, err
		}
		for i, v := range found {
			severity, score := severityOf(v)
			hits = append(hits, hit{p, v, fixed[i], severity, score})
		}
	}
	status := &types.ImageScanStatus{Status: types.ScanStatusComplete, Description: new("The scan was completed successfully.")}
	var says []string
	for e := range lacking {
		says = append(says, "no vulnerabilities of "+e+" were imported")
	}
	for _, f := range inv.Unread {
		says = append(says, f+" was not read")
	}
	if !oldest.IsZero() && s.Now().Sub(oldest) > stale {
		says = append(says, fmt.Sprintf("the database is %d days old", int(s.Now().Sub(oldest).Hours()/24)))
	}
	if len(says) > 0 {
		slices.Sort(says)
		status.Description = new("berth vulndb: " + strings.Join(says, "; "))
	}
	if len(lacking) > 0 && oldest.IsZero() {
		status.Status = types.ScanStatusFindingsUnavailable
	}
	f := &types.ImageScanFindings{ImageScanCompletedAt: &inv.At, FindingSeverityCounts: map[string]int32{}}
	if !oldest.IsZero() {
		f.VulnerabilitySourceUpdatedAt = &oldest
	}
	slices.SortFunc(hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(b.score, a.score), strings.Compare(a.name(), b.name()), strings.Compare(a.p.Binary+a.p.Name, b.p.Binary+b.p.Name))
	})
	seen := map[string]bool{}
	for _, h := range hits {
		id := h.name() + " " + h.p.Name + " " + h.p.Version
		if enhanced {
			id += " " + h.p.Path
		}
		if seen[id] {
			continue
		}
		seen[id] = true
		f.FindingSeverityCounts[string(h.severity)]++
		if enhanced {
			f.EnhancedFindings = append(f.EnhancedFindings, h.enhanced(img, inv.At, len(f.EnhancedFindings)))
		} else {
			f.Findings = append(f.Findings, h.basic())
		}
	}
	return status, f, nil
}

// name is the CVE, where it has one.
func (h hit) name() string {
	for _, a := range append([]string{h.v.ID}, h.v.Aliases...) {
		if strings.HasPrefix(a, "CVE-") {
			return a
		}
	}
	return h.v.ID
}

func severityOf(v vulndb.Vulnerability) (types.FindingSeverity, float64) {
	if score, ok := vulndb.Score(v.Vector); ok {
		switch {
		case score >= 9:
			return types.FindingSeverityCritical, score
		case score >= 7:
			return types.FindingSeverityHigh, score
		case score >= 4:
			return types.FindingSeverityMedium, score
		case score > 0:
			return types.FindingSeverityLow, score
		}
		return types.FindingSeverityInformational, 0
	}
	switch strings.TrimRight(v.Urgency, "*") {
	case "high":
		return types.FindingSeverityHigh, 0
	case "medium":
		return types.FindingSeverityMedium, 0
	case "low":
		return types.FindingSeverityLow, 0
	case "unimportant":
		return types.FindingSeverityInformational, 0
	}
	return types.FindingSeverityUndefined, 0
}

func (h hit) basic() types.ImageScanFinding {
	f := types.ImageScanFinding{Name: new(h.name()), Description: &h.v.Summary, Severity: h.severity, Uri: &h.v.URL}
	add := func(k, v string) {
		if v != "" {
			f.Attributes = append(f.Attributes, types.Attribute{Key: &k, Value: &v})
		}
	}
	add("package_name", cmp.Or(h.p.Name, h.p.Binary))
	add("package_version", h.p.Version)
	add("fixed_in_version", h.fixed)
	if score, ok := vulndb.Score(h.v.Vector); ok {
		add("CVSS3_VECTOR", h.v.Vector)
		add("CVSS3_SCORE", fmt.Sprintf("%.1f", score))
	}
	return f
}

func (h hit) enhanced(img *model.Image, at time.Time, n int) types.EnhancedImageScanFinding {
	fix, remedy := "NO", "None Provided"
	if h.fixed != "" {
		fix, remedy = "YES", "Update "+h.p.Name+" to "+h.fixed
	}
	id := h.name()
	f := types.EnhancedImageScanFinding{Description: &h.v.Summary, FindingArn: new(fmt.Sprintf("arn:aws:inspector2:::finding/%06d-%s", n, strings.TrimPrefix(img.Digest, "sha256:")[:16])),
		FirstObservedAt: &at, LastObservedAt: &at, UpdatedAt: &at, FixAvailable: &fix, Severity: new(string(h.severity)), Status: new("ACTIVE"), Score: h.score,
		Title: new(id + " - " + h.p.Name), Type: new("PACKAGE_VULNERABILITY"), Remediation: &types.Remediation{Recommendation: &types.Recommendation{Text: &remedy}},
		Resources: []types.Resource{{Id: new(img.Key()), Type: new("AWS_ECR_CONTAINER_IMAGE"), Details: &types.ResourceDetails{
			AwsEcrContainerImage: &types.AwsEcrContainerImageDetails{ImageHash: &img.Digest, ImageTags: img.Tags, PushedAt: &img.PushedAt, RepositoryName: &img.Repository}}}}}
	p := types.VulnerablePackage{Name: &h.p.Name, Version: &h.p.Version, FilePath: &h.p.Path, PackageManager: &h.p.Manager, SourceLayerHash: &h.p.Layer}
	if h.fixed != "" {
		p.FixedInVersion = &h.fixed
	}
	d := &types.PackageVulnerabilityDetails{VulnerabilityId: &id, Source: &h.p.Ecosystem, SourceUrl: &h.v.URL, RelatedVulnerabilities: h.v.Aliases,
		VendorCreatedAt: &h.v.Published, VendorUpdatedAt: &h.v.Modified, VulnerablePackages: []types.VulnerablePackage{p}}
	if h.score > 0 {
		d.Cvss = []types.CvssScore{{BaseScore: h.score, ScoringVector: &h.v.Vector, Source: &h.p.Ecosystem, Version: new("3.1")}}
	}
	f.PackageVulnerabilityDetails = d
	return f
}
