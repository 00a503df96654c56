package ecs

import (
	"regexp"

	"github.com/berthdev/berth/internal/model"
)

// maxRequest bounds what is stored of a request, in bytes of JSON.
const maxRequest = 64 << 10

var nullMember = regexp.MustCompile(`"[A-Za-z0-9]+":null,?`)

// size is how many bytes v takes as JSON without the members it does not have.
func size(v any) int {
	b, err := model.EncodeJSON(v)
	if err != nil {
		return maxRequest + 1
	}
	return len(nullMember.ReplaceAll(b, nil))
}

// bounded refuses a request that is too large to keep.
func bounded(request any) error {
	if n := size(request); n > maxRequest {
		return invalid("The request is too large: it has %d bytes, of at most %d.", n, maxRequest)
	}
	return nil
}
