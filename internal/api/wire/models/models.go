// Package models knows the names of the operations that AWS's services have, those that Berth serves and the others, which it refuses
// by name. The lists are generated from the SDK's modules.
package models

import (
	"embed"
	"strings"
	"sync"
)

//go:generate go run generate.go

//go:embed *.txt
var lists embed.FS

// Operations returns the operations of the service of that name in a signature's scope, in the order of their names; none when its
// module is not among the dependencies.
func Operations(service string) []string {
	text, err := lists.ReadFile(service + ".txt")
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

// sets caches the lists for Has.
var sets sync.Map // of string to map[string]bool

// Has tells whether AWS's service has an operation.
func Has(service, operation string) bool {
	set, ok := sets.Load(service)
	if !ok {
		all := map[string]bool{}
		for _, name := range Operations(service) {
			all[name] = true
		}
		set, _ = sets.LoadOrStore(service, all)
	}
	return set.(map[string]bool)[operation]
}
