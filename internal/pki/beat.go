package pki

import (
	"crypto/hmac"
	"crypto/sha256"
)

// NodeBeatKey is the key of one node's beats: no node can speak for another, and servers need no table of them.
func NodeBeatKey(cluster []byte, node string) []byte {
	h := hmac.New(sha256.New, cluster)
	h.Write([]byte("berth beats of " + node))
	return h.Sum(nil)
}
