package worker

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/berthdev/berth/internal/serve/scan"
)

// parserOf is what reads a file of that name; nil: it says nothing of packages.
func parserOf(name string, executable bool) func(data []byte, f *found) {
	base := name[strings.LastIndexByte(name, '/')+1:]
	switch {
	case name == "etc/os-release", name == "usr/lib/os-release":
		return release
	case name == "var/lib/dpkg/status", strings.HasPrefix(name, "var/lib/dpkg/status.d/") && !strings.HasSuffix(name, ".md5sums"):
		return dpkg
	case name == "lib/apk/db/installed", name == "usr/lib/apk/db/installed":
		return apk
	case strings.HasPrefix(name, "var/lib/rpm/"), strings.HasPrefix(name, "usr/lib/sysimage/rpm/"):
		return func(_ []byte, f *found) {
			f.unread = base == "Packages" || base == "Packages.db" || base == "rpmdb.sqlite"
		}
	case base == "package.json" && strings.Contains(name, "node_modules/"):
		return npm
	case base == "METADATA" && strings.Contains(name, ".dist-info/"), base == "PKG-INFO" && strings.Contains(name, ".egg-info/"):
		return python
	case executable:
		return golang
	}
	return nil
}

func release(data []byte, f *found) {
	f.release = map[string]string{}
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			f.release[k] = strings.Trim(v, `"'`)
		}
	}
}

// stanzas calls each with the fields of each paragraph (deb822, which Python's metadata resembles).
func stanzas(data []byte, each func(map[string]string)) {
	fields := map[string]string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			if len(fields) > 0 {
				each(fields)
			}
			fields = map[string]string{}
			continue
		}
		if k, v, ok := strings.Cut(line, ":"); ok && line[0] != ' ' && line[0] != '\t' {
			if _, twice := fields[k]; !twice {
				fields[k] = strings.TrimSpace(v)
			}
		}
	}
	if len(fields) > 0 {
		each(fields)
	}
}

var sourceVersion = regexp.MustCompile(`^(\S+)\s+\((\S+)\)$`)

// dpkg reads Debian's list of packages.
func dpkg(data []byte, f *found) {
	stanzas(data, func(fields map[string]string) {
		name, version := fields["Package"], fields["Version"]
		if status := fields["Status"]; name == "" || version == "" || status != "" && !strings.HasSuffix(status, " installed") {
			return
		}
		p := scan.Package{Ecosystem: "Debian", Name: name, Binary: name, Version: version, Manager: "OS"}
		if source := fields["Source"]; source != "" {
			p.Name = source
			if m := sourceVersion.FindStringSubmatch(source); m != nil {
				p.Name, p.Version = m[1], m[2]
			}
		}
		f.packages = append(f.packages, p)
	})
}

// apk reads Alpine's.
func apk(data []byte, f *found) {
	stanzas(data, func(fields map[string]string) {
		if fields["P"] == "" || fields["V"] == "" {
			return
		}
		p := scan.Package{Ecosystem: "Alpine", Name: fields["P"], Binary: fields["P"], Version: fields["V"], Manager: "OS"}
		if o := fields["o"]; o != "" {
			p.Name = o
		}
		f.packages = append(f.packages, p)
	})
}

func npm(data []byte, f *found) {
	var p struct{ Name, Version string }
	if json.Unmarshal(data, &p) == nil && p.Name != "" && p.Version != "" {
		f.packages = []scan.Package{{Ecosystem: "npm", Name: p.Name, Version: p.Version, Manager: "NODEPKG"}}
	}
}

var separators = regexp.MustCompile(`[-_.]+`)

func python(data []byte, f *found) {
	head, _, _ := bytes.Cut(data, []byte("\n\n"))
	stanzas(head, func(fields map[string]string) {
		if name, version := fields["Name"], fields["Version"]; name != "" && version != "" {
			f.packages = append(f.packages, scan.Package{Ecosystem: "PyPI", Name: strings.ToLower(separators.ReplaceAllString(name, "-")), Version: version, Manager: "PYTHONPKG"})
		}
	})
}

// golang reads the modules that are in a program of Go's.
func golang(data []byte, f *found) {
	if len(data) < 4 || string(data[:4]) != "\x7fELF" {
		return
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return
	}
	add := func(name, version string) {
		if name != "" && version != "" && version != "(devel)" {
			f.packages = append(f.packages, scan.Package{Ecosystem: "Go", Name: name, Version: strings.TrimPrefix(version, "v"), Manager: "GOBINARY"})
		}
	}
	version, _, _ := strings.Cut(info.GoVersion, " ")
	add("stdlib", strings.TrimPrefix(version, "go"))
	add(info.Main.Path, info.Main.Version)
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		add(d.Path, d.Version)
	}
}
