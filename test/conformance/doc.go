// Package conformance holds the OCI distribution specification's checklist as tests of Berth's registry: every way to push a blob and
// every kind of manifest, in 1.1 and in the version after it. The specification's own suite is no module that the Go proxy has, so
// these are ours, after its list of cases.
package conformance
