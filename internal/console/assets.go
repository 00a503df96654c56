package console

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
)

// dist is what `make build` made of web/; a clone has only a README there.
//
//go:embed all:dist
var dist embed.FS

// assets are the files of the browser, compressed once.
type assets struct {
	html []byte // of every page; nil: Berth was built without its console

	mu    sync.Mutex
	files map[string]file
}

type file struct{ plain, zipped []byte }

var entry = regexp.MustCompile(`^main-[A-Z0-9]+\.(js|css)$`)

func openAssets() *assets {
	a := &assets{files: map[string]file{}}
	script, style := "", ""
	entries, _ := fs.ReadDir(dist, "dist") // it is embedded
	for _, e := range entries {
		if entry.MatchString(e.Name()) {
			if strings.HasSuffix(e.Name(), ".js") {
				script = e.Name()
			} else {
				style = e.Name()
			}
		}
	}
	if script == "" || style == "" {
		return a
	}
	a.html = []byte(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Berth</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='7' fill='%2317619a'/%3E%3Cpath d='M6 20h20l-3 6H9zM15 6v12M15 7l8 9h-8' fill='none' stroke='%23fff' stroke-width='2.4'/%3E%3C/svg%3E">
<link rel="stylesheet" href="/console/assets/` + style + `">
<script type="module" src="/console/assets/` + script + `"></script>
</head>
<body><div id="app"><div class="boot"><b>Berth</b></div></div>
<noscript>The console needs JavaScript. The aws and berth commands do all it does.</noscript></body>
</html>
`)
	return a
}

// unbuilt is the page of a Berth that was built by go build alone.
const unbuilt = `<!doctype html><meta charset="utf-8"><title>Berth</title><p>This Berth was built without its console. Run make build.</p>`

func (s *Console) page(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if strings.HasPrefix(r.URL.Path, "/console/api/") {
		http.NotFound(w, r)
		return
	}
	if s.assets.html == nil {
		_, _ = w.Write([]byte(unbuilt))
		return
	}
	_, _ = w.Write(s.assets.html)
}

// asset serves a file whose name has its hash: it is never another.
func (s *Console) asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	f, ok := s.assets.file(name)
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	h.Set("Vary", "Accept-Encoding")
	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.zipped
	}
	_, _ = w.Write(body)
}

func (a *assets) file(name string) (file, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f, ok := a.files[name]; ok {
		return f, true
	}
	data, err := dist.ReadFile("dist/" + path.Base(name))
	if err != nil || name == "README.md" {
		return file{}, false
	}
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // a level that there is
	_, _ = z.Write(data)
	_ = z.Close() // into memory
	a.files[name] = file{data, b.Bytes()}
	return a.files[name], true
}
