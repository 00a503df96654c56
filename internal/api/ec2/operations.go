package ec2

import (
	_ "embed"
	"strings"
)

// operations is every operation of EC2 in the SDK's model, one a line.
//
//go:embed operations.txt
var operations string

// modelled is what Berth refuses by name, where it does not serve it.
func modelled() []string { return strings.Fields(operations) }
