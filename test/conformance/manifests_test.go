package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

const (
	image    = "application/vnd.oci.image.manifest.v1+json"
	index    = "application/vnd.oci.image.index.v1+json"
	docker   = "application/vnd.docker.distribution.manifest.v2+json"
	list     = "application/vnd.docker.distribution.manifest.list.v2+json"
	artifact = "application/vnd.oci.artifact.manifest.v1+json"
	config   = "application/vnd.oci.image.config.v1+json"
	layer    = "application/vnd.oci.image.layer.v1.tar+gzip"
	empty    = "application/vnd.oci.empty.v1+json"
)

type object = map[string]any

// builder pushes what manifests need, in one algorithm.
type builder struct {
	*host
	algorithm string
	pushed    []string // manifests, in order
}

func (b *builder) blob(mediaType string, content []byte) object {
	b.Helper()
	name := digest(b.algorithm, content)
	b.want(b.do("POST", "/v2/one/blobs/uploads/?digest="+name, content), 201)
	return object{"mediaType": mediaType, "digest": name, "size": len(content)}
}

// manifest is an image's with fields on top.
func (b *builder) manifest(fields object) object {
	b.Helper()
	m := object{"schemaVersion": 2, "mediaType": image, "config": b.blob(config, []byte(fmt.Sprintf(`{"os":"linux","n":"%x"}`, random(4)))),
		"layers": []any{b.blob(layer, random(300)), b.blob(layer, random(300))}}
	maps.Copy(m, fields)
	return m
}

func (b *builder) index(fields object, children ...object) object {
	b.Helper()
	all := []any{}
	for _, c := range children {
		all = append(all, b.put(c))
	}
	m := object{"schemaVersion": 2, "mediaType": index, "manifests": all}
	maps.Copy(m, fields)
	return m
}

// put pushes a manifest by its digest and checks what comes back. It returns its descriptor.
func (b *builder) put(m object) object {
	b.Helper()
	content, err := json.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	name, mediaType := digest(b.algorithm, content), m["mediaType"].(string)
	header := []string{"Docker-Content-Digest", name}
	if s, ok := m["subject"].(object); ok {
		header = append(header, "OCI-Subject", s["digest"].(string))
	}
	a := b.want(b.do("PUT", "/v2/one/manifests/"+name, content, "Content-Type", mediaType), 201, header...)
	for _, at := range []string{a.at(""), "/v2/one/manifests/" + name} {
		b.is(at, name, mediaType, content)
	}
	b.pushed = append(b.pushed, name)
	return object{"mediaType": mediaType, "digest": name, "size": len(content)}
}

// is checks a manifest by GET and HEAD.
func (h *host) is(at, name, mediaType string, content []byte) {
	h.Helper()
	header := []string{"Content-Type", mediaType, "Content-Length", fmt.Sprint(len(content)), "Docker-Content-Digest", name}
	if got := h.want(h.do("GET", at, nil, "Accept", mediaType), 200, header...); !bytes.Equal(got.body, content) {
		h.Errorf("%s has another content", at)
	}
	h.want(h.do("HEAD", at, nil, "Accept", mediaType), 200, header...)
}

// kinds are the manifests that a registry takes.
var kinds = map[string]func(b *builder) object{
	"image":        func(b *builder) object { return b.manifest(nil) },
	"docker image": func(b *builder) object { return b.manifest(object{"mediaType": docker}) },
	"large": func(b *builder) object {
		return b.manifest(object{"annotations": object{"a": strings.Repeat("A", 3_900_000)}})
	},
	"index": func(b *builder) object { return b.index(nil, b.manifest(nil), b.manifest(nil)) },
	"docker list": func(b *builder) object {
		return b.index(object{"mediaType": list}, b.manifest(object{"mediaType": docker}))
	},
	"nested index": func(b *builder) object {
		return b.index(nil, b.index(nil, b.manifest(nil)), b.index(nil, b.manifest(nil)))
	},
	"empty index":   func(b *builder) object { return b.index(nil) },
	"no layers":     func(b *builder) object { return b.manifest(object{"layers": []any{}}) },
	"custom fields": func(b *builder) object { return b.manifest(object{"org.example": object{"x": []int{1}}}) },
	"artifact": func(b *builder) object {
		return b.manifest(object{"artifactType": "application/x.one", "config": b.blob(empty, []byte("{}")), "layers": []any{b.blob("application/x", random(9))}})
	},
	"artifact without layers": func(b *builder) object {
		e := b.blob(empty, []byte("{}"))
		return b.manifest(object{"artifactType": "application/x.one", "config": e, "layers": []any{e}})
	},
	"artifact index": func(b *builder) object {
		return b.index(object{"artifactType": "application/x.one"}, b.manifest(nil))
	},
	"artifact manifest of a release candidate": func(b *builder) object {
		return object{"mediaType": artifact, "artifactType": "application/x.one", "blobs": []any{b.blob("application/x", random(9))}}
	},
	"data in descriptors": func(b *builder) object {
		d := b.blob(empty, []byte("{}"))
		d["data"] = []byte("{}")
		return b.manifest(object{"config": d})
	},
	"layers that are elsewhere": func(b *builder) object {
		away := func(t string) object {
			return object{"mediaType": t, "digest": digest(b.algorithm, random(9)), "size": 12345, "urls": []string{"https://store.example.com/x"}}
		}
		return b.manifest(object{"layers": []any{away("application/vnd.oci.image.layer.nondistributable.v1.tar"),
			away("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), b.blob(layer, random(9))}})
	},
	"missing subject": func(b *builder) object {
		return b.manifest(object{"subject": object{"mediaType": image, "digest": digest(b.algorithm, random(9)), "size": 9}})
	},
}

func TestManifests(t *testing.T) {
	for _, algorithm := range []string{"sha256", "sha512"} {
		for kind, make := range kinds {
			t.Run(algorithm+" "+kind, func(t *testing.T) {
				b := &builder{host: serve(t), algorithm: algorithm}
				d := b.put(make(b))
				name := d["digest"].(string)
				content := b.do("GET", "/v2/one/manifests/"+name, nil).body
				b.tag(name, d["mediaType"].(string), content)
				slices.Reverse(b.pushed)
				for _, m := range b.pushed {
					b.want(b.do("DELETE", "/v2/one/manifests/"+m, nil), 202)
					b.want(b.do("HEAD", "/v2/one/manifests/"+m, nil), 404)
				}
				b.want(b.do("HEAD", "/v2/one/manifests/v1", nil), 404)
			})
		}
	}
}

// tag pushes a manifest again with tags, by name where the digest is canonical and by parameter, and deletes one of them.
func (b *builder) tag(name, mediaType string, content []byte) {
	b.Helper()
	a := b.want(b.do("PUT", "/v2/one/manifests/"+name+"?tag=v1&tag=v2&tag=v3", content, "Content-Type", mediaType), 201)
	if got := a.Header.Values("OCI-Tag"); !slices.Equal(got, []string{"v1", "v2", "v3"}) {
		b.Errorf("OCI-Tag is %q", got)
	}
	want := []string{"v1", "v2", "v3"}
	if b.algorithm == "sha256" {
		b.want(b.do("PUT", "/v2/one/manifests/w", content, "Content-Type", mediaType), 201, "Docker-Content-Digest", name)
		want = append(want, "w")
	}
	for _, tag := range want {
		b.is("/v2/one/manifests/"+tag, name, mediaType, content)
	}
	b.tags("", want...)
	b.want(b.do("DELETE", "/v2/one/manifests/v2", nil), 202)
	b.want(b.do("HEAD", "/v2/one/manifests/v2", nil), 404)
	b.want(b.do("HEAD", "/v2/one/manifests/"+name, nil), 200)
}

func (h *host) tags(query string, want ...string) answer {
	h.Helper()
	var got struct {
		Name string
		Tags []string
	}
	a := h.want(h.do("GET", "/v2/one/tags/list"+query, nil), 200)
	if err := json.Unmarshal(a.body, &got); err != nil || got.Name != "one" || !slices.Equal(got.Tags, want) {
		h.Errorf("tags%s: %s, want %q", query, a.body, want)
	}
	return a
}

func TestTagsComeInPages(t *testing.T) {
	b := &builder{host: serve(t), algorithm: "sha256"}
	b.tags("")
	content, _ := json.Marshal(b.manifest(nil))
	for _, tag := range []string{"c", "a", "d", "b"} {
		b.want(b.do("PUT", "/v2/one/manifests/"+tag, content, "Content-Type", image), 201)
	}
	b.tags("", "a", "b", "c", "d")
	first := b.tags("?n=2", "a", "b")
	if link := first.Header.Get("Link"); !strings.Contains(link, "last=b") || !strings.HasSuffix(link, `; rel="next"`) {
		t.Errorf("the link to the next page is %q", link)
	}
	b.tags("?n=2&last=b", "c", "d")
	b.tags("?last=c", "d")
	b.tags("?n=0")
	b.want(b.do("GET", "/v2/none/tags/list", nil), 404)
}

func TestReferrers(t *testing.T) {
	for _, algorithm := range []string{"sha256", "sha512"} {
		t.Run(algorithm, func(t *testing.T) {
			b := &builder{host: serve(t), algorithm: algorithm}
			for _, subject := range []object{b.put(b.manifest(nil)), b.put(b.index(nil, b.manifest(nil))),
				{"mediaType": image, "digest": digest(algorithm, random(9)), "size": 9}} {
				name := subject["digest"].(string)
				b.referrers(name, "")
				plain := b.put(b.manifest(object{"subject": subject}))
				one := b.put(b.manifest(object{"subject": subject, "artifactType": "application/x.one", "annotations": object{"k": "v"}}))
				two := b.put(b.index(object{"subject": subject, "artifactType": "application/x.two"}))
				plain["artifactType"], one["artifactType"], two["artifactType"] = config, "application/x.one", "application/x.two"
				one["annotations"] = object{"k": "v"}
				b.referrers(name, "", plain, one, two)
				b.referrers(name, "application/x.one", one)
				b.referrers(name, "application/x.none")
				b.want(b.do("DELETE", "/v2/one/manifests/"+one["digest"].(string), nil), 202)
				b.referrers(name, "", plain, two)
			}
			b.want(b.do("GET", "/v2/one/referrers/sha256:zz", nil), 400)
		})
	}
}

func (h *host) referrers(name, artifactType string, want ...object) {
	h.Helper()
	query, filtered := "", ""
	if artifactType != "" {
		query, filtered = "?artifactType="+artifactType, "artifactType"
	}
	a := h.want(h.do("GET", "/v2/one/referrers/"+name+query, nil), 200, "Content-Type", index, "OCI-Filters-Applied", filtered)
	var got struct {
		SchemaVersion int
		MediaType     string
		Manifests     []object
	}
	if err := json.Unmarshal(a.body, &got); err != nil || got.SchemaVersion != 2 || got.MediaType != index || got.Manifests == nil {
		h.Fatalf("not an index: %s", a.body)
	}
	key := func(o object) string { b, _ := json.Marshal(o); return string(b) }
	var have, need []string
	for _, m := range got.Manifests {
		have = append(have, key(m))
	}
	for _, m := range want {
		need = append(need, key(m))
	}
	slices.Sort(have)
	slices.Sort(need)
	if !slices.Equal(have, need) {
		h.Errorf("referrers of %s%s:\n%s\nwant\n%s", name, query, have, need)
	}
}

func TestManifestsThatAreRefused(t *testing.T) {
	b := &builder{host: serve(t), algorithm: "sha256"}
	good, _ := json.Marshal(b.manifest(nil))
	name := digest("sha256", good)
	b.want(b.do("PUT", "/v2/one/manifests/"+name, append(good, ' '), "Content-Type", image), 400)
	b.want(b.do("PUT", "/v2/one/manifests/sha256:baddigeststring", good, "Content-Type", image), 400)
	b.want(b.do("GET", "/v2/one/manifests/sha256:baddigeststring", nil), 404)
	b.want(b.do("GET", "/v2/one/manifests/v9", nil), 404)
	b.want(b.do("GET", "/v2/none/manifests/v9", nil), 404)
	b.want(b.do("PUT", "/v2/one/manifests/"+name, good, "Content-Type", index), 400)
	b.want(b.do("PUT", "/v2/one/manifests/"+name+"?tag=..", good, "Content-Type", image), 400)
	b.want(b.do("PUT", "/v2/one/manifests/"+name+"?"+strings.Repeat("tag=a&", 65), good, "Content-Type", image), 414)
	sparse, _ := json.Marshal(b.manifest(object{"layers": []any{object{"mediaType": layer, "digest": digest("sha256", random(9)), "size": 9}}}))
	b.want(b.do("PUT", "/v2/one/manifests/v1", sparse, "Content-Type", image), 400)
	sparse, _ = json.Marshal(object{"schemaVersion": 2, "mediaType": index, "manifests": []any{object{"mediaType": image, "digest": digest("sha256", random(9)), "size": 9}}})
	b.want(b.do("PUT", "/v2/one/manifests/v1", sparse, "Content-Type", index), 400)
	bad, _ := json.Marshal(b.manifest(object{"subject": object{"mediaType": image, "digest": "../../x", "size": 9}}))
	b.want(b.do("PUT", "/v2/one/manifests/v1", bad, "Content-Type", image), 400)
}
