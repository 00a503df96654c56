package vulndb

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// osv is an entry of OSV's schema (ossf.github.io/osv-schema), as much of it as is used.
type osv struct {
	ID        string    `json:"id"`
	Modified  time.Time `json:"modified"`
	Published time.Time `json:"published"`
	Withdrawn time.Time `json:"withdrawn"`
	Aliases   []string  `json:"aliases"`
	Upstream  []string  `json:"upstream"`
	Summary   string    `json:"summary"`
	Details   string    `json:"details"`
	Severity  []scored  `json:"severity"`
	Affected  []struct {
		Package struct {
			Ecosystem string `json:"ecosystem"`
			Name      string `json:"name"`
		} `json:"package"`
		Severity []scored `json:"severity"`
		Ranges   []struct {
			Type   string `json:"type"`
			Events []struct {
				Introduced   string `json:"introduced"`
				Fixed        string `json:"fixed"`
				LastAffected string `json:"last_affected"`
			} `json:"events"`
		} `json:"ranges"`
		Versions []string `json:"versions"`
		Specific struct {
			Urgency string `json:"urgency"`
		} `json:"ecosystem_specific"`
	} `json:"affected"`
	References []struct {
		URL string `json:"url"`
	} `json:"references"`
}

type scored struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

const maxSummary = 2000

// entries are what is stored of it, by ecosystem and package.
func (o osv) entries() map[string]map[string]*Vulnerability {
	all := map[string]map[string]*Vulnerability{}
	if !o.Withdrawn.IsZero() || o.ID == "" {
		return all
	}
	for _, a := range o.Affected {
		e, name := a.Package.Ecosystem, a.Package.Name
		if e == "" || name == "" || strings.ContainsRune(e+name, 0) {
			continue
		}
		e = strings.TrimSuffix(e, ":LTS")
		if e == "PyPI" {
			name = strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(name))
		}
		if all[e] == nil {
			all[e] = map[string]*Vulnerability{}
		}
		v := all[e][name]
		if v == nil {
			v = &Vulnerability{ID: o.ID, Aliases: append(o.Aliases, o.Upstream...), Summary: o.Summary, Published: o.Published, Modified: o.Modified,
				Urgency: a.Specific.Urgency, Vector: vector(append(a.Severity, o.Severity...))}
			if v.Summary == "" {
				v.Summary = o.Details
			}
			if len(v.Summary) > maxSummary {
				v.Summary = strings.ToValidUTF8(v.Summary[:maxSummary], "")
			}
			if len(o.References) > 0 {
				v.URL = o.References[0].URL
			}
			all[e][name] = v
		}
		for _, r := range a.Ranges {
			if r.Type == "GIT" {
				continue
			}
			open := -1
			for _, ev := range r.Events {
				switch {
				case ev.Introduced != "":
					v.Ranges = append(v.Ranges, Range{From: ev.Introduced})
					open = len(v.Ranges) - 1
				case open >= 0 && ev.Fixed != "":
					v.Ranges[open].Fixed, open = ev.Fixed, -1
				case open >= 0 && ev.LastAffected != "":
					v.Ranges[open].Last, open = ev.LastAffected, -1
				}
			}
		}
		if len(v.Ranges) == 0 {
			v.Versions = append(v.Versions, a.Versions...)
		}
	}
	return all
}

// vector is the newest CVSS vector that can be scored.
func vector(all []scored) string {
	best := ""
	for _, s := range all {
		if s.Type == "CVSS_V3" || best == "" {
			best = s.Score
		}
	}
	return best
}

// debian reads the tracker's data/json: package -> CVE -> releases.
func debian(r io.Reader, add func(osv) error) error {
	var all map[string]map[string]struct {
		Description string `json:"description"`
		Releases    map[string]struct {
			Status  string `json:"status"`
			Fixed   string `json:"fixed_version"`
			Urgency string `json:"urgency"`
		} `json:"releases"`
	}
	if err := json.NewDecoder(io.LimitReader(r, 1<<30)).Decode(&all); err != nil {
		return fmt.Errorf("neither a zip of OSV's nor the Debian tracker's JSON: %w", err)
	}
	for name, cves := range all {
		for id, c := range cves {
			for codename, rel := range c.Releases {
				number := releases[codename]
				if number == "" || rel.Fixed == "0" { // not one of ours, or never affected
					continue
				}
				entry := map[string]any{"id": id, "summary": c.Description, "affected": []any{map[string]any{
					"package": map[string]string{"ecosystem": "Debian:" + number, "name": name}, "ecosystem_specific": map[string]string{"urgency": rel.Urgency},
					"ranges": []any{map[string]any{"type": "ECOSYSTEM", "events": events(rel.Fixed)}}}},
					"references": []any{map[string]string{"url": "https://security-tracker.debian.org/tracker/" + id}}}
				data, err := json.Marshal(entry)
				if err != nil {
					return err
				}
				var o osv
				if err := json.Unmarshal(data, &o); err != nil {
					return err
				}
				if err := add(o); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func events(fixed string) []map[string]string {
	all := []map[string]string{{"introduced": "0"}}
	if fixed != "" {
		all = append(all, map[string]string{"fixed": fixed})
	}
	return all
}

// releases are Debian's by their names.
var releases = map[string]string{"buster": "10", "bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14"}

// Score is the base score of a CVSS 3 vector; ok is false for other ones.
func Score(vector string) (score float64, ok bool) {
	if !strings.HasPrefix(vector, "CVSS:3") {
		return 0, false
	}
	m := map[string]string{}
	for part := range strings.SplitSeq(vector, "/") {
		if k, v, ok := strings.Cut(part, ":"); ok {
			m[k] = v
		}
	}
	changed := m["S"] == "C"
	pr := map[string]float64{"N": 0.85, "L": 0.62, "H": 0.27}
	if changed {
		pr = map[string]float64{"N": 0.85, "L": 0.68, "H": 0.5}
	}
	cia := map[string]float64{"H": 0.56, "L": 0.22, "N": 0}
	weights := []struct {
		metric string
		values map[string]float64
	}{{"AV", map[string]float64{"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2}}, {"AC", map[string]float64{"L": 0.77, "H": 0.44}}, {"PR", pr},
		{"UI", map[string]float64{"N": 0.85, "R": 0.62}}, {"C", cia}, {"I", cia}, {"A", cia}}
	var w [7]float64
	for i, x := range weights {
		v, known := x.values[m[x.metric]]
		if !known {
			return 0, false
		}
		w[i] = v
	}
	iss := 1 - (1-w[4])*(1-w[5])*(1-w[6])
	impact := 6.42 * iss
	if changed {
		impact = 7.52*(iss-0.029) - 3.25*math.Pow(iss-0.02, 15)
	}
	if impact <= 0 {
		return 0, true
	}
	base := impact + 8.22*w[0]*w[1]*w[2]*w[3]
	if changed {
		base *= 1.08
	}
	return roundUp(math.Min(base, 10)), true
}

// roundUp is to one decimal, as CVSS 3.1 has it.
func roundUp(x float64) float64 {
	n := int(math.Round(x * 100_000))
	if n%10_000 == 0 {
		return float64(n) / 100_000
	}
	return (math.Floor(float64(n)/10_000) + 1) / 10
}
