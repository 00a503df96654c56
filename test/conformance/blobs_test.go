package conformance

import (
	"bytes"
	"fmt"
	"testing"
)

const octets = "application/octet-stream"

// pushes are the ways to push a blob; each returns the last answer.
var pushes = map[string]func(h *host, name string, content []byte) answer{
	"post only": func(h *host, name string, content []byte) answer {
		return h.do("POST", "/v2/one/blobs/uploads/?digest="+name, content, "Content-Type", octets)
	},
	"post and put": func(h *host, name string, content []byte) answer {
		return h.do("PUT", h.start().at("digest="+name), content, "Content-Type", octets)
	},
	"stream": func(h *host, name string, content []byte) answer {
		sent := h.want(h.do("PATCH", h.start().at(""), content, "Content-Type", octets), 202)
		return h.do("PUT", sent.at("digest="+name), nil)
	},
	"chunks":                        func(h *host, name string, content []byte) answer { return h.chunks(name, content, false, false) },
	"chunks, the last by put":       func(h *host, name string, content []byte) answer { return h.chunks(name, content, true, false) },
	"chunks out of order":           func(h *host, name string, content []byte) answer { return h.chunks(name, content, false, true) },
	"chunks out of order, and put":  func(h *host, name string, content []byte) answer { return h.chunks(name, content, true, true) },
	"a mount that names no one has": func(h *host, name string, content []byte) answer { return h.mount(name, content, "two/deep", false) },
	"a mount from anywhere":         func(h *host, name string, content []byte) answer { return h.mount(name, content, "", false) },
	"a mount":                       func(h *host, name string, content []byte) answer { return h.mount(name, content, "two/deep", true) },
}

func (h *host) start() answer {
	h.Helper()
	return h.want(h.do("POST", "/v2/one/blobs/uploads/", nil), 202)
}

// chunks pushes three chunks. With wrong each is tried at another place first, and the upload asked where it stands.
func (h *host) chunks(name string, content []byte, put, wrong bool) answer {
	h.Helper()
	last, size := h.start(), len(content)/3+1
	for at := 0; at < len(content); at += size {
		end := min(at+size, len(content))
		if bad := at + size; wrong && bad < len(content) {
			h.want(h.do("PATCH", last.at(""), content[bad:min(bad+size, len(content))], "Content-Type", octets,
				"Content-Range", fmt.Sprintf("%d-%d", bad, min(bad+size, len(content))-1)), 416)
			where := fmt.Sprintf("0-%d", max(at-1, 0))
			last = h.want(h.do("GET", last.at(""), nil), 204, "Range", where)
		}
		span := fmt.Sprintf("%d-%d", at, end-1)
		if put && end == len(content) {
			return h.do("PUT", last.at("digest="+name), content[at:end], "Content-Type", octets, "Content-Range", span)
		}
		last = h.want(h.do("PATCH", last.at(""), content[at:end], "Content-Type", octets, "Content-Range", span), 202,
			"Range", fmt.Sprintf("0-%d", end-1))
	}
	return h.do("PUT", last.at("digest="+name), nil)
}

// mount mounts a blob of another repository; where that cannot be it is an upload like any other.
func (h *host) mount(name string, content []byte, from string, there bool) answer {
	h.Helper()
	if there {
		h.want(h.do("POST", "/v2/two/deep/blobs/uploads/?digest="+name, content), 201)
		a := h.do("POST", "/v2/one/blobs/uploads/?mount="+name+"&from="+from, nil)
		h.want(h.do("DELETE", "/v2/two/deep/blobs/"+name, nil), 202)
		return a
	}
	query := "?mount=" + name
	if from != "" {
		query += "&from=" + from
	}
	begun := h.want(h.do("POST", "/v2/one/blobs/uploads/"+query, nil), 202)
	return h.do("PUT", begun.at("digest="+name), content)
}

func TestBlobs(t *testing.T) {
	for _, algorithm := range []string{"sha256", "sha512"} {
		for way, push := range pushes {
			t.Run(algorithm+" "+way, func(t *testing.T) {
				h := serve(t)
				for _, content := range [][]byte{random(3000), random(1 << 20), []byte("{}"), {}} {
					name := digest(algorithm, content)
					h.want(h.do("GET", "/v2/one/blobs/"+name, nil), 404)
					a := h.want(push(h, name, content), 201, "Docker-Content-Digest", name)
					if got := h.want(h.do("GET", a.at(""), nil), 200); !bytes.Equal(got.body, content) {
						t.Error("the location has another content")
					}
					h.stored("one", name, content)
				}
				if way == "a mount" {
					return
				}
				name := digest(algorithm, random(100))
				h.want(push(h, name, random(3000)), 400)
				h.want(h.do("HEAD", "/v2/one/blobs/"+name, nil), 404)
			})
		}
	}
}

func TestUploadsAreCancelled(t *testing.T) {
	h := serve(t)
	begun := h.start()
	h.want(h.do("DELETE", begun.at(""), nil), 204)
	h.want(h.do("GET", begun.at(""), nil), 404)
	h.want(h.do("PATCH", begun.at(""), random(10)), 404)
}

func TestRanges(t *testing.T) {
	h := serve(t)
	content := random(2048)
	name := digest("sha256", content)
	h.want(h.do("POST", "/v2/one/blobs/uploads/?digest="+name, content), 201)
	for asked, want := range map[string][2]int{"500-1499": {500, 1500}, "500-": {500, 2048}, "-500": {1548, 2048}, "2000-5000": {2000, 2048}} {
		a := h.want(h.do("GET", "/v2/one/blobs/"+name, nil, "Range", "bytes="+asked), 206,
			"Content-Range", fmt.Sprintf("bytes %d-%d/2048", want[0], want[1]-1), "Content-Length", fmt.Sprint(want[1]-want[0]))
		if !bytes.Equal(a.body, content[want[0]:want[1]]) {
			t.Errorf("bytes=%s: other bytes", asked)
		}
	}
	for _, asked := range []string{"500-0", "5000-10000"} {
		a := h.do("GET", "/v2/one/blobs/"+name, nil, "Range", "bytes="+asked)
		if a.StatusCode != 416 {
			t.Errorf("bytes=%s: %s", asked, a.Status)
		}
	}
}

func TestBearerTokens(t *testing.T) {
	h := serve(t)
	got := h.want(h.do("GET", "/v2/token?service=ecr.amazonaws.com&scope=repository:one:pull", nil), 200)
	if !bytes.Contains(got.body, []byte(`"token":"secret"`)) {
		t.Errorf("the token is %s", got.body)
	}
}
