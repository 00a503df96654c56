package app

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/berthdev/berth/internal/join"
	"github.com/berthdev/berth/internal/life"
	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/store"
)

// pathHear is where a server tells another what it hears of nodes.
const pathHear = "/v1/servers/hear"

// otherServer is a life.Other.
type otherServer struct {
	s   *server
	row *model.Server
}

// otherServers are those that may hear of nodes of which this one hears nothing.
func (s *server) otherServers() (all []life.Other) {
	s.store.View(func(r store.Reader) {
		for row := range store.Servers.Scan(r, "") {
			if row.ID != s.in.NodeID {
				all = append(all, otherServer{s, row})
			}
		}
	})
	return all
}

// Name implements life.Other.
func (o otherServer) Name() string { return o.row.ID }

// Hear implements life.Other.
func (o otherServer) Hear(ctx context.Context, nodes []string) (signs map[string]life.Signs, err error) {
	return signs, join.Post(ctx, o.s.port.client(o.row.Address), pathHear, nodes, &signs)
}

// serveHear answers another server's otherServer.
func (s *server) serveHear(w http.ResponseWriter, r *http.Request) {
	var nodes []string
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAsk)).Decode(&nodes); err != nil {
		peer.WriteError(w, http.StatusBadRequest, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.life.Hear(r.Context(), nodes)) // who has gone asks again
}
