package agent

import (
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	securejoin "github.com/cyphar/filepath-securejoin"
)

// nfsScheme begins the name of an NFS export: nfs://host/path.
const nfsScheme = "nfs://"

// CheckFileSystem tells whether target can stand for a file system: an absolute path of a directory, or nfs://HOST/PATH.
func CheckFileSystem(id, target string) error {
	if !strings.HasPrefix(id, "fs-") && !strings.HasPrefix(id, "fsap-") || len(id) > 64 {
		return fmt.Errorf("%q is not the id of a file system (fs-…) or of an access point (fsap-…)", id)
	}
	if strings.HasPrefix(target, nfsScheme) {
		u, err := url.Parse(target)
		if err != nil || u.Hostname() == "" || !path.IsAbs(u.Path) || u.RawQuery != "" || u.User != nil {
			return fmt.Errorf("%q is not an NFS export: want nfs://HOST/PATH", target)
		}
		return nil
	}
	if !filepath.IsAbs(target) || filepath.Clean(target) == "/" {
		return fmt.Errorf("%q is neither the absolute path of a directory nor an NFS export (nfs://HOST/PATH)", target)
	}
	return nil
}

// efs is what stands for an EFS volume on this machine: a directory to bind, or an NFS export to mount.
type efs struct {
	dir    string // "" for NFS
	source string // host:/path
	port   string // "" for the usual one
}

// efsOf finds what stands for a volume, by its access point if it has one.
func (a *Agent) efsOf(name string, v *types.EFSVolumeConfiguration) (efs, *Error) {
	cannot := func(format string, args ...any) (efs, *Error) {
		return efs{}, &Error{Name: "ResourceInitializationError", Message: fmt.Sprintf(format, args...)}
	}
	known, err := a.fileSystems()
	if err != nil {
		return cannot("which file systems this machine has cannot be read: %v", err)
	}
	id, root := deref(v.FileSystemId), deref(v.RootDirectory)
	if auth := v.AuthorizationConfig; auth != nil && deref(auth.AccessPointId) != "" {
		id, root = *auth.AccessPointId, ""
	}
	target, ok := known[id]
	if !ok {
		return cannot("volume %s is on the EFS file system %s, which is not known on this machine: say which directory or NFS export it is "+
			"here, with: berth file-system set %s /DIRECTORY (or nfs://HOST/PATH)", name, id, id)
	}
	if err := CheckFileSystem(id, target); err != nil {
		return cannot("volume %s: %v", name, err)
	}
	if strings.HasPrefix(target, nfsScheme) {
		u, _ := url.Parse(target) // CheckFileSystem has
		return efs{source: u.Hostname() + ":" + path.Join(u.Path, path.Clean("/"+root)), port: u.Port()}, nil
	}
	dir, err := securejoin.SecureJoin(target, root) // tasks may have left links in it
	if err != nil {
		return cannot("volume %s: the directory %s of %s: %v", name, root, target, err)
	}
	return efs{dir: dir}, nil
}

func (a *Agent) fileSystems() (map[string]string, error) {
	if a.cfg.FileSystems == nil {
		return nil, nil
	}
	return a.cfg.FileSystems()
}

// refuseEFS names the volumes on file systems that this machine does not know.
func (a *Agent) refuseEFS(def *types.TaskDefinition) *Error {
	for _, v := range def.Volumes {
		if v.EfsVolumeConfiguration == nil {
			continue
		}
		if _, err := a.efsOf(deref(v.Name), v.EfsVolumeConfiguration); err != nil {
			return err
		}
	}
	return nil
}
