package app

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/berthdev/berth/internal/node/agent"
)

// fileSystems are what stands for EFS file systems on this machine, by their ids. The file is read anew for each task.
func (in *Instance) fileSystems() (map[string]string, error) {
	all := map[string]string{}
	return all, readJSON(in.Path("file-systems.json"), &all)
}

// SetFileSystem says which directory or NFS export of this machine stands for a file system; "" for none.
func SetFileSystem(dir, id, target string) error {
	in, err := LoadInstance(dir)
	if err != nil {
		return err
	}
	all, err := in.fileSystems()
	if err != nil {
		return err
	}
	if target == "" {
		if _, ok := all[id]; !ok {
			return fmt.Errorf("nothing stands for %s here; berth file-system ls lists what does", id)
		}
		delete(all, id)
		return writeJSON(in.Path("file-systems.json"), all)
	}
	if err := agent.CheckFileSystem(id, target); err != nil {
		return &SettingError{"file-system", target, err.Error()}
	}
	if !strings.HasPrefix(target, "nfs://") {
		if info, err := os.Stat(target); err != nil || !info.IsDir() {
			return &SettingError{"file-system", target, "a directory that is there"}
		}
	}
	all[id] = target
	return writeJSON(in.Path("file-systems.json"), all)
}

// FileSystems lists what stands for file systems on this machine.
func FileSystems(dir string, out io.Writer) error {
	in, err := LoadInstance(dir)
	if err != nil {
		return err
	}
	all, err := in.fileSystems()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FILE SYSTEM\tHERE")
	for _, id := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(w, "%s\t%s\n", id, all[id])
	}
	return w.Flush()
}
