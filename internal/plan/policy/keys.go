package policy

import "strings"

// Keys are a request's values of condition keys, by key in small letters. A key without values is not there.
type Keys map[string][]string

// Set gives a key its values; without any it stays away.
func (k Keys) Set(name string, values ...string) {
	if len(values) > 0 {
		k[strings.ToLower(name)] = values
	}
}

// multivalued tells whether a key may hold several values: no operator without ForAllValues or ForAnyValue ever matches it.
func multivalued(key string) bool {
	switch key {
	case "aws:tagkeys", "aws:calledvia", "aws:principalorgpaths", "aws:resourceorgpaths", "aws:sourceorgpaths", "aws:principalservicenameslist",
		"sts:transitivetagkeys", "secretsmanager:addreplicaregions", "kms:encryptioncontextkeys", "kms:grantoperations":
		return true
	}
	return false
}
