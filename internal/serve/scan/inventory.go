// Package scan finds the known vulnerabilities of images: a worker process lists what packages an image has (worker), a database that
// was imported says which of them are vulnerable (vulndb), and findings are made when somebody asks, so that a new database counts at
// once and no layer is read again.
package scan

import "time"

// Package is one installed package.
type Package struct {
	Ecosystem string `json:"ecosystem"`         // as OSV names it: "Debian:12", "Alpine:v3.20", "npm", "PyPI", "Go"
	Name      string `json:"name"`              // that vulnerabilities are listed under: of the source package, where there is one
	Binary    string `json:"binary,omitempty"`  // as it is installed, where that is another
	Version   string `json:"version"`           // of the source package
	Path      string `json:"path"`              // of the file that says so
	Layer     string `json:"layer"`             // digest
	Manager   string `json:"manager,omitempty"` // OS, NODEPKG, PYTHONPKG, GOBINARY
}

// OS tells whether it is the distribution's.
func (p Package) OS() bool { return p.Manager == "OS" }

// Inventory is what an image has.
type Inventory struct {
	Distribution string    `json:"distribution"` // of /etc/os-release: "debian 12"; "" when it says none
	Packages     []Package `json:"packages"`
	// Unread are what may hold packages and was not read, such as an RPM database.
	Unread []string  `json:"unread,omitempty"`
	At     time.Time `json:"at"`
}
