// Command storefront serves the shop's page. The page talks to the other services through the same load balancer.
package main

import (
	_ "embed"
	"net/http"

	"github.com/berthdev/berth/examples/shop/internal/serve"
)

//go:embed index.html
var page []byte

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(page)
	})
	serve.Main("storefront", mux)
}
