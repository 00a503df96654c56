package serve

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Tokens are signed with a key that auth and payment share, so that payment need not ask auth.
func sign(payload string) string {
	m := hmac.New(sha256.New, []byte(os.Getenv("TOKEN_KEY")))
	m.Write([]byte(payload))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// Token makes a token for a user, good for an hour.
func Token(user string) string {
	payload := base64.RawURLEncoding.EncodeToString([]byte(user)) + "." + strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	return payload + "." + sign(payload)
}

// User returns whom the request's bearer token names, "" when it has none that is valid.
func User(r *http.Request) string {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 || !hmac.Equal([]byte(sign(parts[0]+"."+parts[1])), []byte(parts[2])) {
		return ""
	}
	until, err := strconv.ParseInt(parts[1], 10, 64)
	user, err2 := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || err2 != nil || time.Now().Unix() > until {
		return ""
	}
	return string(user)
}
