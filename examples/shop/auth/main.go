// Command auth signs customers in.
package main

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/berthdev/berth/examples/shop/internal/serve"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /auth/login", login)
	mux.HandleFunc("GET /auth/me", me)
	serve.Main("auth", mux)
}

func login(w http.ResponseWriter, r *http.Request) {
	var in struct{ User string }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&in); err != nil || strings.TrimSpace(in.User) == "" {
		serve.Fail(w, http.StatusBadRequest, "say who you are")
		return
	}
	serve.JSON(w, http.StatusOK, map[string]string{"token": serve.Token(strings.TrimSpace(in.User))})
}

func me(w http.ResponseWriter, r *http.Request) {
	user := serve.User(r)
	if user == "" {
		serve.Fail(w, http.StatusUnauthorized, "sign in first")
		return
	}
	serve.JSON(w, http.StatusOK, map[string]string{"user": user})
}
