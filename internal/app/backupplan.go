package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/internal/timeouts"
)

// BackupPlan has a server write backups by itself.
type BackupPlan struct {
	Dir   string        `json:"dir"`
	Every time.Duration `json:"every"`
	Keep  int           `json:"keep"` // how many; older ones are deleted
	BackupWhat
}

// check completes a plan and tells whether it can be kept.
func (p *BackupPlan) check() error {
	if p.Every == 0 {
		return nil
	}
	if p.Every < timeouts.BackupLeast {
		return &SettingError{"every", p.Every.String(), "a minute or more, or 0 for no more backups"}
	}
	if p.Keep < 1 {
		return &SettingError{"keep", fmt.Sprint(p.Keep), "1 or more"}
	}
	var err error
	if p.Dir, err = filepath.Abs(p.Dir); err != nil {
		return err
	}
	if info, err := os.Stat(p.Dir); err != nil || !info.IsDir() {
		return fmt.Errorf("%s: backups go into a folder that exists", p.Dir)
	}
	return nil
}

// PlanBackups has the server of dir write backups by itself from now on, also after it was started anew; with Every 0 no more.
func PlanBackups(ctx context.Context, dir string, p BackupPlan, out io.Writer) error {
	if err := p.check(); err != nil {
		return err
	}
	in, err := LoadInstance(dir)
	if err != nil {
		return err
	}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if in.Running() {
		body, err := in.adminSend(ctx, http.MethodPut, "/servers/backups", strings.NewReader(string(data)))
		if err != nil {
			return err
		}
		_ = body.Close()
	} else if err := in.planBackups(p); err != nil {
		return err
	}
	if p.Every == 0 {
		fmt.Fprintln(out, "no more backups are written by themselves")
		return nil
	}
	_, err = fmt.Fprintf(out, "this server writes a backup to %s every %s and keeps %d; they hold the root key, so keep them safe\n", p.Dir, p.Every, p.Keep)
	return err
}

func (in *Instance) plansFile() string { return in.Path("backup-plan.json") }

func (in *Instance) planBackups(p BackupPlan) error { return writeJSON(in.plansFile(), p) }

// serveBackupPlan takes a plan on the admin socket of the server that is to keep it.
func (s *server) serveBackupPlan(w http.ResponseWriter, r *http.Request) {
	var p BackupPlan
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&p)
	if err == nil {
		err = p.check()
	}
	if err == nil {
		err = s.in.planBackups(p)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// planned writes backups by plan until ctx is done.
func (s *server) planned(ctx context.Context) error {
	return every(ctx, timeouts.BackupLook, func() {
		var p BackupPlan
		if err := readJSON(s.in.plansFile(), &p); err != nil {
			s.log.Error("the plan of backups cannot be read", "error", err)
			return
		}
		if p.Every == 0 {
			return
		}
		switch wrote, err := s.backUpBy(ctx, p, time.Now()); {
		case err != nil && ctx.Err() == nil:
			s.log.Error("a backup was not written; it is tried again", "folder", p.Dir, "error", err)
		case wrote != "":
			s.log.Info("wrote a backup", "file", wrote)
		}
	})
}

// backUpBy writes a backup if one is due, and deletes those that are too many.
func (s *server) backUpBy(ctx context.Context, p BackupPlan, now time.Time) (wrote string, err error) {
	prefix := "berth-" + s.in.ID + "-"
	own := func() (all []string, err error) {
		files, err := os.ReadDir(p.Dir)
		for _, f := range files {
			if strings.HasPrefix(f.Name(), prefix) && strings.HasSuffix(f.Name(), ".backup") {
				all = append(all, f.Name())
			}
		}
		slices.Sort(all)
		return all, err
	}
	const stamp = "20060102T150405"
	all, err := own()
	if err != nil {
		return "", err
	}
	if len(all) > 0 {
		last := strings.TrimSuffix(strings.TrimPrefix(all[len(all)-1], prefix), ".backup")
		if at, err := time.Parse(stamp, last); err == nil && now.Sub(at) < p.Every && !at.After(now.Add(timeouts.BackupLeast)) {
			return "", nil
		}
	}
	wrote = filepath.Join(p.Dir, prefix+now.UTC().Format(stamp)+".backup")
	err = writeAside(wrote, func(w io.Writer) error {
		return writeBackup(w, s.in, s.rows(ctx), p.BackupWhat, s.more(ctx, p.BackupWhat))
	})
	if err != nil {
		return "", err
	}
	if all, err = own(); err != nil {
		return wrote, err
	}
	for _, old := range all[:max(0, len(all)-p.Keep)] {
		err = errors.Join(err, os.Remove(filepath.Join(p.Dir, old)))
	}
	return wrote, err
}
