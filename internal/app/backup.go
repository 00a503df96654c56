package app

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/logstore"
	"github.com/berthdev/berth/internal/serve/registry"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/etcd"
)

// A backup is one gzip stream: its head as JSON, then each row's key and value with their lengths before them, then a length of zero and
// the number of rows. It holds the root key: whoever can read it owns this Berth.
const backupFormat = "berth-backup-1"

type backupHead struct {
	Format  string            `json:"format"`
	Created time.Time         `json:"created"`
	Files   map[string][]byte `json:"files"` // by name in the data directory
}

// backupFiles are what belongs to the state besides the rows, and clusterFiles what a server has of its cluster: without them every machine
// would have to join anew.
var (
	backupFiles  = []string{"instance.json", "root-key.json"}
	clusterFiles = []string{"master.key", "pki/ca.key", "pki/ca.pem", "pki/beat.key", "pki/roots.pem", "pki/key.pem", "pki/cert.pem"}
)

// rows yields the state's rows.
type rows func(yield func(key string, value []byte) error) error

// writeBackup writes the files of in and the rows.
func writeBackup(w io.Writer, in *Instance, each rows, what BackupWhat, more things) error {
	head := backupHead{Format: backupFormat, Created: time.Now().UTC(), Files: map[string][]byte{}}
	if what.more() {
		head.Format = backupFormatMore
	}
	for _, name := range backupFiles {
		data, err := os.ReadFile(in.Path(name))
		if err != nil {
			return err
		}
		head.Files[name] = data
	}
	for _, name := range clusterFiles {
		data, err := os.ReadFile(in.Path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was never asked to let others in
		}
		if err != nil {
			return err
		}
		head.Files[name] = data
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	first, err := json.Marshal(head)
	if err != nil {
		return err
	}
	writeChunk(z, first) // errors of a gzip.Writer stay
	n := uint64(0)
	err = each(func(key string, value []byte) error {
		n++
		return errors.Join(writeChunk(z, []byte(key)), writeChunk(z, value))
	})
	_, errEnd := z.Write(binary.AppendUvarint([]byte{0}, n))
	if what.more() && err == nil && errEnd == nil {
		err = writeThings(z, more)
	}
	return errors.Join(err, errEnd, z.Close())
}

func writeChunk(w io.Writer, data []byte) error {
	if _, err := w.Write(binary.AppendUvarint(nil, uint64(len(data)))); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// maxChunk bounds what is believed of a length in a backup.
const maxChunk = 64 << 20

// readBackup reads a whole backup; one that was cut or changed is refused. take gets what it holds besides the state.
func readBackup(r io.Reader, take func(name string, r io.Reader) error) (head backupHead, all map[string]string, err error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return head, nil, fmt.Errorf("it is no backup of Berth: %w", err)
	}
	in := bufio.NewReaderSize(z, 1<<16)
	first, err := readChunk(in)
	if err != nil || json.Unmarshal(first, &head) != nil || head.Format != backupFormat && head.Format != backupFormatMore {
		return head, nil, errors.New("it is no backup of Berth, or one of a later version")
	}
	all = map[string]string{}
	for {
		key, err := readChunk(in)
		if err != nil {
			return head, nil, fmt.Errorf("it is damaged or was cut: %w", err)
		}
		if len(key) == 0 {
			break
		}
		value, err := readChunk(in)
		if err != nil {
			return head, nil, fmt.Errorf("it is damaged or was cut: %w", err)
		}
		all[string(key)] = string(value)
	}
	n, err := binary.ReadUvarint(in)
	if err == nil && n == uint64(len(all)) && head.Format == backupFormatMore {
		if err := readThings(in, take); err != nil {
			return head, nil, err
		}
	}
	if _, end := in.ReadByte(); err != nil || end != io.EOF || n != uint64(len(all)) { // at the end gzip has compared its checksum
		return head, nil, errors.New("it is damaged or was cut")
	}
	return head, all, nil
}

func readChunk(in *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, err
	}
	if n > maxChunk {
		return nil, errors.New("a length is impossible")
	}
	data := make([]byte, n)
	_, err = io.ReadFull(in, data)
	return data, err
}

// adminSocket is where a running server hands out backups; only its own user may use it.
func (in *Instance) adminSocket() string {
	if in.Runtime == "containerd" && !in.Alone {
		return filepath.Join(in.RunDir(), "admin.sock")
	}
	return in.Path("admin.sock") // without containers there need be no root, and nothing below /run
}

// serveAdmin answers on the admin socket until ctx is done.
func (s *server) serveAdmin(ctx context.Context) error {
	l, err := listenPrivate(s.in.adminSocket())
	if err != nil {
		s.log.Warn("berth backup works only while the server is stopped", "error", err)
		return nil
	}
	return serveHTTP(ctx, l, s.anywhere(s.admin))
}

// adminMux is what is asked on the admin socket.
func (s *server) adminMux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /backup", func(w http.ResponseWriter, r *http.Request) {
		what := BackupWhat{Blobs: r.FormValue("blobs") == "true", Logs: r.FormValue("logs") == "true"}
		if err := writeBackup(w, s.in, s.rows(r.Context()), what, s.more(r.Context(), what)); err != nil {
			s.log.Error("cannot write a backup", "error", err)
			panic(http.ErrAbortHandler) // the client must not take it for whole
		}
	})
	mux.HandleFunc("GET /fleet", s.serveFleet)
	mux.Handle("GET /metrics", s.metricsHandler())
	s.serveTokens(mux)
	mux.HandleFunc("POST /node/confirm-lost", s.serveConfirmLost)
	mux.HandleFunc("POST /node/{node}/{change}", s.serveNodeChange)
	s.serveServers(mux)
	s.serveCA(mux)
	s.serveRestored(mux)
	mux.HandleFunc("PUT /servers/backups", s.serveBackupPlan)
	s.serveRegistryAdmin(mux)
	return mux
}

// listenPrivate listens on a socket that only this user may use.
func listenPrivate(socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (s *server) rows(ctx context.Context) rows {
	return func(yield func(string, []byte) error) error { return s.store.Rows(ctx, yield) }
}

// Backup writes the state of the Berth in dir, its keys and its name, and what else is asked for, to file, which only this user may read. The
// server may run.
func Backup(ctx context.Context, dir, file string, what BackupWhat, out io.Writer) error {
	in, err := LoadInstance(dir)
	if err != nil {
		return err
	}
	err = writeAside(file, func(w io.Writer) error {
		release, err := in.lock()
		if err != nil {
			return in.fetchBackup(ctx, what, w)
		}
		defer release()
		st, err := etcd.Open(ctx, etcd.Config{Dir: in.Path("etcd"), Kinds: store.Schema(), Log: newLogger(false)})
		if err != nil {
			return err
		}
		err = in.backUpStopped(ctx, w, st, what)
		return errors.Join(err, st.Close())
	})
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	fmt.Fprintf(out, "the state of %s is in %s; it holds the root key, so keep it safe\n", dir, file)
	return nil
}

// backUpStopped writes the backup of a server that does not run.
func (in *Instance) backUpStopped(ctx context.Context, w io.Writer, st *etcd.Store, what BackupWhat) error {
	var all []things
	if what.Blobs {
		blobs, err := registry.OpenBlobs(in.Path("registry"))
		if err != nil {
			return err
		}
		all = append(all, blobThings(ctx, blobs, blobs, st))
	}
	if what.Logs {
		stores := map[string]*logstore.Store{}
		folders, err := filepath.Glob(in.Path("logs*"))
		if err != nil {
			return err
		}
		for _, dir := range folders {
			if !logFolder(filepath.Base(dir)) {
				continue
			}
			s, err := logstore.Open(dir, logstore.Config{Log: newLogger(false), Now: time.Now})
			if err != nil {
				return err
			}
			defer s.Close()
			stores[filepath.Base(dir)] = s
		}
		all = append(all, logThings(stores, in.dir))
	}
	return writeBackup(w, in, func(yield func(string, []byte) error) error { return st.Rows(ctx, yield) }, what, both(all...))
}

// fetchBackup asks the running server.
func (in *Instance) fetchBackup(ctx context.Context, what BackupWhat, w io.Writer) error {
	body, err := in.admin(ctx, http.MethodGet, fmt.Sprintf("/backup?blobs=%t&logs=%t", what.Blobs, what.Logs))
	if err != nil {
		return fmt.Errorf("ask the server that runs: %w", err)
	}
	defer body.Close()
	_, err = io.Copy(w, body)
	return err
}

// writeAside writes a file of mode 0600 so that a failure leaves the old one, or none.
func writeAside(file string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// Restore puts the backup in file in the place of what dir holds, which is kept aside. No server may run.
func Restore(ctx context.Context, dir, file string, out io.Writer) error {
	head, all, err := readFile(file) // all of it, before anything is changed
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var saved Instance
	if err := json.Unmarshal(head.Files["instance.json"], &saved); err != nil || saved.ID == "" {
		return fmt.Errorf("%s: it names no instance", file)
	}
	in, err := LoadInstance(dir)
	if err == nil && in.ID != saved.ID {
		return fmt.Errorf("%s is another Berth (%s) than the one in %s (%s); restore into a data directory of its own", dir, in.ID, file, saved.ID)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	in = &saved
	in.dir = dir
	release, err := in.lock()
	if err != nil {
		return err
	}
	defer release()
	for name, data := range head.Files {
		if !slices.Contains(backupFiles, name) && !slices.Contains(clusterFiles, name) {
			return fmt.Errorf("%s: it holds a file %q, which this version does not know", file, name)
		}
		if err := os.MkdirAll(filepath.Dir(in.Path(name)), 0o700); err != nil {
			return err
		}
		if err := writeFile(in.Path(name), data); err != nil {
			return err
		}
	}
	if head.Format == backupFormatMore {
		if err := in.restoreMore(ctx, file, out); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return in.replace(ctx, all, fmt.Sprintf("the backup of %s", head.Created.Format(time.RFC3339)), out)
}

// replace puts rows in the place of the instance's state, as another incarnation of it: nodes that have seen more than it knows accept it.
// The other servers are not of the cluster any more.
func (in *Instance) replace(ctx context.Context, all map[string]string, what string, out io.Writer) error {
	var others []string
	err := etcd.Edit(all, store.Schema(), func(tx store.Tx) {
		reincarnate(tx)
		unconfirmed(tx)
		for row := range store.Servers.Scan(tx, "") {
			if row.ID != in.NodeID {
				others = append(others, row.Name+" ("+row.Address+")")
				store.Servers.Delete(tx, row.ID)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("put %s in place: %w", what, err)
	}
	aside, err := etcd.Replace(ctx, etcd.Config{Dir: in.Path("etcd"), Kinds: store.Schema(), Log: newLogger(false)},
		func(yield func(string, []byte) bool) {
			for key, value := range all {
				if !yield(key, []byte(value)) {
					return
				}
			}
		})
	if err != nil {
		return fmt.Errorf("put %s in place: %w (what was there is in %s)", what, err, aside)
	}
	fmt.Fprintf(out, "%s is in place: %d rows\n", what, len(all))
	if aside != "" {
		fmt.Fprintf(out, "what was there is kept in %s; delete it when nobody needs it\n", aside)
	}
	if len(others) > 0 {
		fmt.Fprintf(out, "this server is the whole cluster now; start no other one of before: %s; new ones join empty (berth token server)\n", strings.Join(others, ", "))
	}
	fmt.Fprintf(out, "go on with: berth %s --data-dir %s\ntasks begun after that run on until: berth --data-dir %s restore --confirm\n", in.command(), in.dir, in.dir)
	return nil
}

// reincarnate makes the state another incarnation: nodes that have seen more than it knows accept it.
func reincarnate(tx store.Tx) {
	if old, ok := store.ClusterSettings.Get(tx, model.SettingsKey); ok {
		settings := *old
		settings.Incarnation = randomHex(4)
		store.ClusterSettings.Put(tx, &settings)
	}
}

// unconfirmed has nodes keep tasks that the state does not know until people have looked at them. A Berth without a cluster has no settings
// until then.
func unconfirmed(tx store.Tx) {
	settings := model.Settings{Incarnation: randomHex(4), Level: model.Level}
	if old, ok := store.ClusterSettings.Get(tx, model.SettingsKey); ok {
		settings = *old
	}
	settings.Unconfirmed = true
	store.ClusterSettings.Put(tx, &settings)
}

// command is the one that starts the instance.
func (in *Instance) command() string {
	if in.Alone {
		return "server"
	}
	return "up"
}
