package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/peer"
	"github.com/berthdev/berth/internal/pki"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
	"github.com/berthdev/berth/internal/timeouts"
)

// RecoverQuorum is `berth server --recover`: it makes the state on this server that of a cluster of this one alone, when so many of the
// others are lost for good that nobody can lead. It refuses while another of them answers, and asks before it does anything. sure: the
// question is answered already. No server may run on the data directory. Tasks go on meanwhile.
func RecoverQuorum(ctx context.Context, dir string, sure bool, answers io.Reader, out io.Writer) error {
	in, err := LoadInstance(dir)
	if err != nil {
		return err
	}
	if !in.Peers {
		return fmt.Errorf("%s is the only server of its cluster: there is nobody to do without; a damaged state is mended by: berth recover", dir)
	}
	release, err := in.lock()
	if err != nil {
		return err
	}
	defer release()
	lost, err := in.otherServers()
	if err != nil {
		return err
	}
	if err := in.nobodyAnswers(ctx, lost); err != nil {
		return err
	}
	fmt.Fprintln(out, "These servers do not answer, and are not of the cluster any more after this, even when they come back:")
	for _, row := range lost {
		fmt.Fprintf(out, "  %s %s at %s\n", row.ID[:min(8, len(row.ID))], row.Name, row.Address)
	}
	fmt.Fprintln(out, "What was acknowledged and had reached only them is lost. Never do this on two servers. Tasks go on.")
	if !sure {
		fmt.Fprint(out, "Go on with this server alone? Type yes: ")
		line, err := bufio.NewReader(answers).ReadString('\n')
		if strings.TrimSpace(line) != "yes" {
			return errors.Join(errors.New("nothing was changed"), notEOF(err))
		}
	}
	if err := in.goOnAlone(ctx, lost); err != nil {
		return fmt.Errorf("go on alone: %w", err)
	}
	fmt.Fprintf(out, "This server is the whole cluster now. Start it with: berth %s --data-dir %s; then let new servers in: berth token server\n", in.command(), dir)
	return nil
}

func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// otherServers are the rows of the others, as they are on this server's disk.
func (in *Instance) otherServers() (all []*model.Server, err error) {
	r, err := etcd.Peek(in.Path("etcd"), store.Schema())
	if err != nil {
		return nil, fmt.Errorf("read who the other servers are: %w", err)
	}
	for row := range store.Servers.Scan(r, "") {
		if row.ID != in.NodeID {
			all = append(all, row)
		}
	}
	return all, nil
}

// nobodyAnswers is nil when none of the servers takes a connection on its cluster port.
func (in *Instance) nobodyAnswers(ctx context.Context, all []*model.Server) error {
	id, err := pki.Load(in.pkiDir())
	if err != nil {
		return err
	}
	d := peer.NewDialer(peer.Config{Identity: func() *pki.Identity { return id }})
	for _, row := range all {
		c, err := d.Dial(ctx, row.Address, peer.ProtocolHTTP)
		if err != nil {
			continue
		}
		_ = c.Close()
		return fmt.Errorf("server %s (%s) answers at %s: nothing was changed. If a majority of the servers can be started, start them, and nothing is lost; "+
			"if not, stop that one for good before this one goes on alone", row.Name, row.ID[:min(8, len(row.ID))], row.Address)
	}
	return nil
}

// goOnAlone makes the state that of a cluster of this server, and forgets the others.
func (in *Instance) goOnAlone(ctx context.Context, lost []*model.Server) error {
	ca, err := pki.LoadCA(in.pkiDir())
	if err != nil {
		return err
	}
	p, err := in.peers(ca, in.Advertise)
	if err != nil {
		return err
	}
	p.Forced = true
	s, err := etcd.Open(ctx, etcd.Config{Dir: in.Path("etcd"), Kinds: store.Schema(), Log: newLogger(false), Peers: p})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeouts.ServerEnter)
	defer cancel()
	for err = store.ErrNotLeader; errors.Is(err, store.ErrNotLeader) && ctx.Err() == nil; {
		err = s.Update(store.Freeing(ctx), func(tx store.Tx) error {
			for _, row := range lost {
				store.Servers.Delete(tx, row.ID)
			}
			reincarnate(tx) // nodes may have seen what only the others had
			return nil
		})
		if err != nil {
			time.Sleep(timeouts.ServerRetry)
		}
	}
	return errors.Join(err, s.Close())
}
