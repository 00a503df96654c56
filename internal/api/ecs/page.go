package ecs

import (
	"encoding/base64"
	"strings"
)

const tokenPrefix = "berth1:"

// page cuts sorted items down to one page. Keys of items are unique and ascend (descend when desc); a token holds the key of
// the last item seen, so that a listing goes on where it stopped whatever has changed in between.
// size is the page's default size and limit its greatest.
func page[T any](
	items []T, key func(T) string, desc bool, token *string, asked *int32, size, limit int32,
) (out []T, next *string, err error) {
	if asked != nil {
		if *asked < 1 || *asked > limit {
			return nil, nil, invalid("maxResults must be between 1 and %d.", limit)
		}
		size = *asked
	}
	after, err := readToken(token)
	if err != nil {
		return nil, nil, err
	}
	out = []T{}
	for _, item := range items {
		k := key(item)
		if after != "" && ((!desc && k <= after) || (desc && k >= after)) {
			continue
		}
		if len(out) == int(size) {
			return out, new(base64.RawURLEncoding.EncodeToString([]byte(tokenPrefix + key(out[len(out)-1])))), nil
		}
		out = append(out, item)
	}
	return out, nil, nil
}

func readToken(token *string) (string, error) {
	if value(token) == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(*token)
	if err == nil {
		if key, ok := strings.CutPrefix(string(b), tokenPrefix); ok {
			return key, nil
		}
	}
	return "", invalid("Invalid token.")
}
