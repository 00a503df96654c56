// Command payment charges customers who are signed in.
package main

import (
	"crypto/rand"
	"encoding/json"
	"net/http"

	"github.com/berthdev/berth/examples/shop/internal/serve"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /payment/charge", charge)
	serve.Main("payment", mux)
}

func charge(w http.ResponseWriter, r *http.Request) {
	user := serve.User(r)
	if user == "" {
		serve.Fail(w, http.StatusUnauthorized, "sign in before you pay")
		return
	}
	var in struct{ Cents int }
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&in); err != nil || in.Cents <= 0 {
		serve.Fail(w, http.StatusBadRequest, "nothing to pay")
		return
	}
	serve.JSON(w, http.StatusOK, map[string]any{"receipt": rand.Text()[:10], "user": user, "cents": in.Cents})
}
