package build

import (
	"fmt"
	"maps"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/tonistiigi/fsutil"
)

// More are the options of a build that few builds need, as docker buildx spells them.
type More struct {
	CacheTo, CacheFrom []string // type=registry,ref=…[,mode=max], type=local,…, type=inline, or a reference
	Secrets            []string // id=ID[,src=FILE|,env=VARIABLE]
	SSH                []string // default or ID[=SOCKET|KEY[,KEY]]
	Contexts           []string // NAME=DIR, or NAME=docker-image://REFERENCE
	Epoch              string   // SOURCE_DATE_EPOCH: the time of all files in the result
	Provenance         bool     // attest how the image was made (SLSA)
}

// add completes what is asked of the builder. registry is Berth's own, where references without a host are.
func (m More) add(to *bkclient.SolveOpt, registry string) error {
	for _, text := range m.CacheTo {
		e, err := cacheOption(text, registry)
		if err != nil {
			return fmt.Errorf("--cache-to %s: %w", text, err)
		}
		to.CacheExports = append(to.CacheExports, e)
	}
	for _, text := range m.CacheFrom {
		e, err := cacheOption(text, registry)
		if err != nil {
			return fmt.Errorf("--cache-from %s: %w", text, err)
		}
		to.CacheImports = append(to.CacheImports, e)
	}
	for _, text := range m.Contexts {
		name, from, ok := strings.Cut(text, "=")
		if !ok || name == "" || from == "" {
			return fmt.Errorf("--build-context %s: want NAME=DIR or NAME=docker-image://REFERENCE", text)
		}
		if strings.Contains(from, "://") {
			to.FrontendAttrs["context:"+name] = from
			continue
		}
		dir, err := fsutil.NewFS(from)
		if err != nil {
			return fmt.Errorf("--build-context %s: %w", text, err)
		}
		to.LocalMounts["context-"+name] = dir
		to.FrontendAttrs["context:"+name] = "local:context-" + name
	}
	if m.Epoch != "" {
		to.FrontendAttrs["build-arg:SOURCE_DATE_EPOCH"] = m.Epoch
		for i := range to.Exports {
			to.Exports[i].Attrs = maps.Clone(to.Exports[i].Attrs)
			to.Exports[i].Attrs["rewrite-timestamp"] = "true"
			delete(to.Exports[i].Attrs, "unpack") // it is not what was built: whoever runs it unpacks it
		}
	}
	if m.Provenance {
		to.FrontendAttrs["attest:provenance"] = "mode=max"
	}
	more, err := m.attachables()
	to.Session = append(to.Session, more...)
	return err
}

// Repositories are those of the registry that caches are written to: they must be there.
func (m More) Repositories(registry string) (repos []string) {
	for _, text := range m.CacheTo {
		if e, err := cacheOption(text, registry); err == nil && e.Type == "registry" {
			if _, repo, _, err := Reference(registry, e.Attrs["ref"]); err == nil {
				repos = append(repos, repo)
			}
		}
	}
	return repos
}

// attachables are what the builder asks this process for.
func (m More) attachables() (all []session.Attachable, err error) {
	var secrets []secretsprovider.Source
	for _, text := range m.Secrets {
		f, err := fields(text)
		if err != nil || f["id"] == "" {
			return nil, fmt.Errorf("--secret %s: want id=ID[,src=FILE|,env=VARIABLE]", text)
		}
		src := f["src"]
		if src == "" {
			src = f["source"]
		}
		if src == "" && f["env"] == "" {
			f["env"] = f["id"]
		}
		secrets = append(secrets, secretsprovider.Source{ID: f["id"], FilePath: src, Env: f["env"]})
	}
	if len(secrets) > 0 {
		store, err := secretsprovider.NewStore(secrets)
		if err != nil {
			return nil, fmt.Errorf("--secret: %w", err)
		}
		all = append(all, secretsprovider.NewSecretProvider(store))
	}
	var agents []sshprovider.AgentConfig
	for _, text := range m.SSH {
		id, paths, _ := strings.Cut(text, "=")
		c := sshprovider.AgentConfig{ID: id}
		if paths != "" {
			c.Paths = strings.Split(paths, ",")
		}
		agents = append(agents, c)
	}
	if len(agents) > 0 {
		p, err := sshprovider.NewSSHAgentProvider(agents)
		if err != nil {
			return nil, fmt.Errorf("--ssh: %w", err)
		}
		all = append(all, p)
	}
	return all, nil
}

// fields reads k=v,k=v.
func fields(text string) (map[string]string, error) {
	f := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(part, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("%q is not key=value", part)
		}
		f[k] = v
	}
	return f, nil
}

// cacheOption reads where a cache is: a reference alone is a repository's.
func cacheOption(text, registry string) (e bkclient.CacheOptionsEntry, err error) {
	if !strings.Contains(text, "=") {
		text = "type=registry,ref=" + text
	}
	f, err := fields(text)
	if err != nil {
		return e, err
	}
	e.Type = f["type"]
	delete(f, "type")
	switch e.Type {
	case "registry":
		if f["ref"] == "" {
			return e, fmt.Errorf("say ref=REPO[:TAG]")
		}
		if f["ref"], _, _, err = Reference(registry, f["ref"]); err != nil {
			return e, err
		}
	case "local", "inline":
	default:
		return e, fmt.Errorf("the types are registry, local and inline")
	}
	e.Attrs = f
	return e, nil
}
