package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/berthdev/berth/internal/serve/fleet"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/timeouts"
)

// The statuses of a container instance that people set.
const (
	instanceActive   = "ACTIVE"
	instanceDraining = "DRAINING"
)

// Emptying is how far a node is from having no tasks.
type Emptying struct {
	Host     string `json:"host"`
	Services int    `json:"services"` // tasks of services, which are replaced elsewhere
	Alone    int    `json:"alone"`    // tasks of none, which stay until they end or are stopped
}

// ChangeNode asks the server on this machine to change a node, by its id, host or address: drain, activate, rm, or look, which changes
// nothing. force: rm also when the node is up or has tasks.
func ChangeNode(ctx context.Context, dir, node, change string, force bool) (left Emptying, err error) {
	path := "/node/" + url.PathEscape(node) + "/" + change
	if force {
		path += "?force=true"
	}
	return left, ask(ctx, dir, path, &left)
}

// ConfirmLost tells the server that the nodes which are silent are lost, though they are most of them.
func ConfirmLost(ctx context.Context, dir string) error {
	return ask(ctx, dir, "/node/confirm-lost", nil)
}

// ask posts to the admin socket and reads the answer into out.
func ask(ctx context.Context, dir, path string, out any) error {
	in, err := LoadInstance(dir)
	if err != nil {
		return err
	}
	body, err := in.admin(ctx, http.MethodPost, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, body)
		return err
	}
	return json.NewDecoder(body).Decode(out)
}

// WaitEmpty drains a node and says on out how far it is, until no service has a task there.
func WaitEmpty(ctx context.Context, dir, node string, out io.Writer) error {
	said := ""
	for {
		left, err := ChangeNode(ctx, dir, node, "look", false)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%s: %d tasks of services to be replaced", left.Host, left.Services)
		if left.Services == 0 {
			text = left.Host + " is drained"
		}
		if left.Alone > 0 {
			text += fmt.Sprintf("; %d tasks of no service stay until they end", left.Alone)
		}
		if text != said {
			fmt.Fprintln(out, text)
			said = text
		}
		if left.Services == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; it goes on draining, and takes tasks again with: berth node activate %s", ctx.Err(), node)
		case <-time.After(timeouts.DrainLook):
		}
	}
}

func (s *server) serveConfirmLost(w http.ResponseWriter, _ *http.Request) {
	if !s.life.Confirm() {
		http.Error(w, "no verdict waits: most nodes are heard; see: berth node ls", http.StatusConflict)
	}
}

// serveNodeChange changes a node.
func (s *server) serveNodeChange(w http.ResponseWriter, r *http.Request) {
	n, err := s.fleet(time.Now()).Find(r.PathValue("node"))
	if err == nil {
		switch change := r.PathValue("change"); change {
		case "look":
		case "drain":
			err = s.setInstances(r.Context(), n.ID, instanceDraining)
		case "activate":
			err = s.setInstances(r.Context(), n.ID, instanceActive)
		case "rm":
			err = s.removeNode(r.Context(), n, r.URL.Query().Get("force") == "true")
		default:
			err = fmt.Errorf("a node cannot be changed by %q", change)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.emptying(n)) // who has gone asks again
}

func (s *server) emptying(n fleet.Node) Emptying {
	left := Emptying{Host: cmp.Or(n.Host, n.ID)}
	s.store.View(func(r store.Reader) {
		for t := range store.Tasks.By(r, store.ByNode, n.ID) {
			switch {
			case t.Ended():
			case t.Service == "":
				left.Alone++
			default:
				left.Services++
			}
		}
	})
	return left
}

// setInstances sets the status of the node's container instances in all active clusters, as UpdateContainerInstancesState does for one.
func (s *server) setInstances(ctx context.Context, node, status string) error {
	return s.store.Update(ctx, func(tx store.Tx) error {
		for _, c := range slices.Collect(store.Clusters.Scan(tx, "")) {
			i, ok := store.InstanceOn(tx, c.Name, node)
			if !ok || c.Status != instanceActive || i.Status == status || i.Status != instanceActive && i.Status != instanceDraining {
				continue
			}
			changed := *i
			changed.Status = status
			changed.Version++
			store.Instances.Put(tx, &changed)
		}
		return nil
	})
}

// removeNode forgets a node; control ends what it still has. Its certificate is no good from then on.
func (s *server) removeNode(ctx context.Context, n fleet.Node, force bool) error {
	if n.ID == s.in.NodeID {
		return errors.New("this machine's own node is not removed while its server runs; to take tasks off it: berth node drain")
	}
	return s.store.Update(store.Freeing(ctx), func(tx store.Tx) error {
		row, ok := store.Nodes.Get(tx, n.ID)
		if !ok {
			return nil
		}
		if !force {
			if row.Agent() {
				return fmt.Errorf("node %s is up: drain it (berth node drain) and stop berth there, or use --force, which stops its tasks", n.Host)
			}
			for t := range store.Tasks.By(tx, store.ByNode, n.ID) {
				if !t.Ended() {
					return fmt.Errorf("node %s has tasks that have not ended: wait until they are replaced (berth node ls), or use --force", n.Host)
				}
			}
		}
		for _, i := range slices.Collect(store.Instances.By(tx, store.ByNode, n.ID)) {
			store.Instances.Delete(tx, i.Key())
		}
		store.Nodes.Delete(tx, n.ID)
		return nil
	})
}
