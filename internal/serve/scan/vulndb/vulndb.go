// Package vulndb is the database of known vulnerabilities: what was imported of OSV's archives and Debian's tracker, indexed by
// package. It needs no network.
package vulndb

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/google/osv-scalibr/semantic"
)

// DB is an opened database. Several may read it; an import makes a new one and puts it in its place.
type DB struct {
	db *pebble.DB
}

// Vulnerability is one that a package has in some versions.
type Vulnerability struct {
	ID        string    `json:"id"`
	Aliases   []string  `json:"aliases,omitempty"`
	Summary   string    `json:"summary,omitempty"`
	Vector    string    `json:"vector,omitempty"`  // CVSS
	Urgency   string    `json:"urgency,omitempty"` // Debian's
	URL       string    `json:"url,omitempty"`
	Published time.Time `json:"published,omitzero"`
	Modified  time.Time `json:"modified,omitzero"`
	Ranges    []Range   `json:"ranges,omitempty"`
	Versions  []string  `json:"versions,omitempty"`
}

// Range is from a version on ("0": from the first) to before Fixed, or to Last.
type Range struct {
	From  string `json:"from"`
	Fixed string `json:"fixed,omitempty"`
	Last  string `json:"last,omitempty"`
}

// Source says what was imported of an ecosystem, and when.
type Source struct {
	Ecosystem string    `json:"ecosystem"`
	Entries   int       `json:"entries"`
	Imported  time.Time `json:"imported"`
	Newest    time.Time `json:"newest"` // change that it has
}

const metaPrefix = "meta\x00"

// Open opens the database in dir, making it when it is missing.
func Open(dir string) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}})
	if err != nil {
		return nil, fmt.Errorf("open the vulnerability database: %w", err)
	}
	return &DB{db}, nil
}

// quiet logs nothing.
type quiet struct{}

// Infof implements pebble.Logger.
func (quiet) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (quiet) Errorf(string, ...any) {}

// Fatalf implements pebble.Logger.
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// Close closes it.
func (d *DB) Close() error { return d.db.Close() }

func key(ecosystem, name, id string) []byte {
	return []byte("v\x00" + ecosystem + "\x00" + name + "\x00" + id)
}

// upper is the first key after all that begin with prefix.
func upper(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	end[len(end)-1]++
	return end
}

func (d *DB) each(prefix []byte, f func(value []byte) error) error {
	it, err := d.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: upper(prefix)})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = f(it.Value())
	}
	return errors.Join(err, it.Close())
}

// Match returns the vulnerabilities that a version of a package has, and the version that fixes each ("": none does).
func (d *DB) Match(ecosystem, name, version string) (found []Vulnerability, fixed []string, err error) {
	family, _, _ := strings.Cut(ecosystem, ":")
	v, err := semantic.Parse(version, family)
	if err != nil {
		return nil, nil, nil // versions of that kind cannot be told apart
	}
	err = d.each(key(ecosystem, name, ""), func(value []byte) error {
		var one Vulnerability
		if err := json.Unmarshal(value, &one); err != nil {
			return err
		}
		if hit, fix := affects(one, v, version); hit {
			found, fixed = append(found, one), append(fixed, fix)
		}
		return nil
	})
	return found, fixed, err
}

func affects(one Vulnerability, v semantic.Version, version string) (bool, string) {
	for _, r := range one.Ranges {
		from, err := v.CompareStr(r.From)
		if r.From != "0" && (err != nil || from < 0) {
			continue
		}
		if r.Fixed != "" {
			if c, err := v.CompareStr(r.Fixed); err == nil && c < 0 {
				return true, r.Fixed
			}
			continue
		}
		if r.Last != "" {
			if c, err := v.CompareStr(r.Last); err == nil && c <= 0 {
				return true, ""
			}
			continue
		}
		return true, ""
	}
	for _, listed := range one.Versions {
		if len(one.Ranges) == 0 && listed == version {
			return true, ""
		}
	}
	return false, ""
}

// Status lists what was imported.
func (d *DB) Status() (all []Source, err error) {
	err = d.each([]byte(metaPrefix), func(value []byte) error {
		var s Source
		all = append(all, s)
		return json.Unmarshal(value, &all[len(all)-1])
	})
	return all, err
}

// maxEntry bounds one entry of an archive.
const maxEntry = 16 << 20

// Import reads an archive of OSV's (a zip of JSON files) or the Debian tracker's JSON. What an ecosystem had before is replaced.
func (d *DB) Import(file string, now time.Time) ([]Source, error) {
	if z, err := zip.OpenReader(file); err == nil {
		defer z.Close()
		return d.importing(now, func(add func(osv) error) error {
			for _, f := range z.File {
				if !strings.HasSuffix(f.Name, ".json") {
					continue
				}
				if err := readEntry(f, add); err != nil {
					return fmt.Errorf("%s: %w", f.Name, err)
				}
			}
			return nil
		})
	} else if !errors.Is(err, zip.ErrFormat) {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return d.importing(now, func(add func(osv) error) error { return debian(f, add) })
}

func readEntry(f *zip.File, add func(osv) error) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxEntry+1))
	if err != nil || len(data) > maxEntry {
		return errors.Join(err, fmt.Errorf("an entry of %d bytes", len(data)))
	}
	var o osv
	if err := json.Unmarshal(data, &o); err != nil {
		return err
	}
	return add(o)
}

// importing writes what each gives; an ecosystem's old entries go with its first new one.
func (d *DB) importing(now time.Time, each func(add func(osv) error) error) ([]Source, error) {
	sources := map[string]*Source{}
	batch := d.db.NewBatch()
	err := each(func(o osv) error {
		for ecosystem, byName := range o.entries() {
			s := sources[ecosystem]
			if s == nil {
				s = &Source{Ecosystem: ecosystem, Imported: now}
				sources[ecosystem] = s
				prefix := []byte("v\x00" + ecosystem + "\x00")
				if err := batch.DeleteRange(prefix, upper(prefix), nil); err != nil {
					return err
				}
			}
			if o.Modified.After(s.Newest) {
				s.Newest = o.Modified
			}
			for name, v := range byName {
				s.Entries++
				data, err := json.Marshal(v)
				if err != nil {
					return err
				}
				if err := batch.Set(key(ecosystem, name, v.ID), data, nil); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, batch.Close())
	}
	all := []Source{}
	for _, s := range sources {
		data, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		if err := batch.Set([]byte(metaPrefix+s.Ecosystem), data, nil); err != nil {
			return nil, err
		}
		all = append(all, *s)
	}
	if len(all) == 0 {
		return nil, errors.Join(errors.New("it has no vulnerabilities of packages"), batch.Close())
	}
	return all, batch.Commit(pebble.Sync)
}
