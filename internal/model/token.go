package model

import "time"

// Token lets machines join the cluster: what the cluster keeps of it. The secret is known to whoever was shown it. Made by an operator;
// Uses is written at each join.
type Token struct {
	ID        string // 8 letters of base32, in the token itself
	Role      string // of those who join with it: node, server or client
	Hash      string // hexadecimal SHA-256 of its secret
	Pin       string // hexadecimal SHA-256 of the public key of the authority that it names
	CreatedAt time.Time
	ExpiresAt time.Time // a client may use the API until then
	MaxUses   int       // 0: any number
	Uses      int
}

// Key is its id.
func (t *Token) Key() string { return t.ID }
