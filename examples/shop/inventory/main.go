// Command inventory knows what is on the shelves.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/berthdev/berth/examples/shop/internal/serve"
)

type product struct {
	SKU   string `json:"sku"`
	Name  string `json:"name"`
	Cents int    `json:"cents"`
	Stock int    `json:"stock"`
	Emoji string `json:"emoji"`
}

// shelves is the stock of this task; it is full again when the task is replaced.
type shelves struct {
	mu       sync.Mutex
	products []product
}

func main() {
	s := &shelves{products: []product{
		{"rope-10", "Mooring rope, 10 m", 2490, 40, "🪢"},
		{"buoy-red", "Red marker buoy", 3950, 12, "🛟"},
		{"lamp-deck", "Deck lamp", 1875, 25, "🏮"},
		{"anchor-8", "Anchor, 8 kg", 8900, 6, "⚓"},
		{"chart-nord", "Harbour chart", 1200, 80, "🗺️"},
		{"tea-tin", "Captain's tea", 650, 200, "🫖"},
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /inventory/products", s.list)
	mux.HandleFunc("POST /inventory/reserve", s.reserve)
	serve.Main("inventory", mux)
}

func (s *shelves) list(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	all := slices.Clone(s.products)
	s.mu.Unlock()
	serve.JSON(w, http.StatusOK, all)
}

// reserve takes a whole cart off the shelves, or nothing.
func (s *shelves) reserve(w http.ResponseWriter, r *http.Request) {
	var cart map[string]int
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 65536)).Decode(&cart); err != nil || len(cart) == 0 {
		serve.Fail(w, http.StatusBadRequest, "the cart is empty")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for sku, n := range cart {
		i := slices.IndexFunc(s.products, func(p product) bool { return p.SKU == sku })
		if i < 0 || n < 1 || n > s.products[i].Stock {
			serve.Fail(w, http.StatusConflict, fmt.Sprintf("not enough of %s on the shelves", sku))
			return
		}
		total += n * s.products[i].Cents
	}
	for sku, n := range cart {
		i := slices.IndexFunc(s.products, func(p product) bool { return p.SKU == sku })
		s.products[i].Stock -= n
	}
	serve.JSON(w, http.StatusOK, map[string]int{"cents": total})
}
