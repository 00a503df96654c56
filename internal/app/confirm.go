package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/nodelink"
	"github.com/berthdev/berth/internal/store"
)

// restored is how a cluster stands whose state was put back from a backup.
type restored struct {
	Unconfirmed bool
	Nodes       []keeping
	Silent      bool // a node that has a session has not said yet what it keeps
}

// keeping is a node and the tasks that it keeps though the state does not know them.
type keeping struct {
	ID, Host  string
	Connected bool
	Kept      []nodelink.Kept
}

func (s *server) restored() (out restored) {
	kept, heard := s.links.Kept()
	out.Silent = !heard
	s.store.View(func(r store.Reader) {
		if row, ok := store.ClusterSettings.Get(r, model.SettingsKey); ok {
			out.Unconfirmed = row.Unconfirmed
		}
		for n := range store.Nodes.Scan(r, "") {
			if len(kept[n.ID]) > 0 || !n.Connected {
				out.Nodes = append(out.Nodes, keeping{n.ID, n.Hostname, n.Connected, kept[n.ID]})
			}
		}
	})
	return out
}

// serveRestored adds what is asked about a state that was put back.
func (s *server) serveRestored(mux *http.ServeMux) {
	mux.HandleFunc("GET /restored", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(s.restored()) // who has gone asks again
	})
	mux.HandleFunc("POST /restored/confirm", func(w http.ResponseWriter, r *http.Request) {
		err := s.store.Update(r.Context(), func(tx store.Tx) error {
			if old, ok := store.ClusterSettings.Get(tx, model.SettingsKey); ok && old.Unconfirmed {
				settings := *old
				settings.Unconfirmed = false
				store.ClusterSettings.Put(tx, &settings)
			}
			return nil
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
}

// ConfirmRestore shows the tasks that nodes keep though the state that was put back does not know them, and has them stopped when that is
// what people want. sure: do not ask.
func ConfirmRestore(ctx context.Context, dir string, sure bool, answers io.Reader, out io.Writer) error {
	var now restored
	if err := askAdmin(ctx, dir, http.MethodGet, "/restored", &now); err != nil {
		return err
	}
	if !now.Unconfirmed {
		fmt.Fprintln(out, "there is nothing to confirm: no backup was put back since the last time")
		return nil
	}
	if now.Silent {
		return errors.New("a node has not said yet which tasks it keeps; try again in some seconds")
	}
	tasks := 0
	for _, n := range now.Nodes {
		if !n.Connected {
			fmt.Fprintf(out, "node %s (%s) is not connected: what it keeps is not known, and stops when it comes back\n", n.ID[:min(4, len(n.ID))], n.Host)
		}
		for _, k := range n.Kept {
			tasks++
			fmt.Fprintf(out, "  %s on %s: %s of cluster %s, %s\n", k.Task, n.Host, k.Group, k.Cluster, k.Definition[strings.LastIndexByte(k.Definition, '/')+1:])
		}
	}
	if tasks == 0 {
		fmt.Fprintln(out, "no connected node keeps a task that the state does not know")
	} else if !sure {
		fmt.Fprintf(out, "These %d tasks were begun after the backup and run on. To keep one's work, begin it again by the API first.\nStop them? Type yes: ", tasks)
		line, err := bufio.NewReader(answers).ReadString('\n')
		if strings.TrimSpace(line) != "yes" {
			return errors.Join(errors.New("nothing was changed"), notEOF(err))
		}
	}
	if err := askAdmin(ctx, dir, http.MethodPost, "/restored/confirm", nil); err != nil {
		return err
	}
	fmt.Fprintf(out, "the state is confirmed; %d tasks stop\n", tasks)
	return nil
}
