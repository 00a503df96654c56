package wire_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"

	awseks "github.com/aws/aws-sdk-go-v2/service/eks"

	"github.com/berthdev/berth/internal/api/eks"
	"github.com/berthdev/berth/internal/api/wire"
)

// sentRequest is the request of a snapshot.
func sentRequest(t *testing.T, name, head, body string) *http.Request {
	t.Helper()
	line, header, _ := strings.Cut(strings.TrimLeft(head, "\n"), "\n")
	text := line + " HTTP/1.1\r\nHost: localhost\r\n"
	for h := range strings.Lines(strings.TrimSpace(header)) {
		text += strings.TrimSpace(h) + "\r\n"
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text + "\r\n")))
	if err != nil {
		t.Fatalf("%s: %v in %q", name, err, text)
	}
	r.Body = io.NopCloser(strings.NewReader(body))
	return r
}

// TestRESTRequestsOfTheSDK reads the request snapshot of every operation and has the SDK's client send what was read: nothing may be
// lost on the way.
func TestRESTRequestsOfTheSDK(t *testing.T) {
	f, n := &far{}, 0
	snaps := snapshots(t, filepath.Join(moduleDir(t, "eks"), "request_snapshot"), ".request.snap")
	eachOperation(clients(f)["eks"], func(name string, inType, _ reflect.Type, call func(any) (any, error)) {
		n++
		want := sentRequest(t, name, snaps[name][0], snaps[name][1])
		op, in, err := wire.DecodeREST(eks.New(), want, func(string) (*smithy.Schema, any) {
			v := reflect.New(inType).Interface()
			return schemaOf(v), v
		})
		if err != nil || op != name {
			t.Errorf("%s was read as %q: %v", name, op, err)
			return
		}
		if _, err := call(in); f.sent == nil {
			t.Errorf("%s was not sent: %v", name, err)
			return
		}
		got := f.sent
		if got.Method != want.Method || got.URL.EscapedPath() != want.URL.EscapedPath() ||
			!reflect.DeepEqual(got.URL.Query(), want.URL.Query()) {
			t.Errorf("%s: %s %s became %s %s", name, want.Method, want.URL, got.Method, got.URL)
		}
		if got, want := tree(t, name, f.request), tree(t, name, []byte(snaps[name][1])); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", name, f.request, snaps[name][1])
		}
		f.sent = nil
	})
	if n != len(snaps) || n < 60 {
		t.Errorf("%d operations and %d snapshots", n, len(snaps))
	}
}

// operationSchema is the schema of one of EKS's operations.
func operationSchema(name string, in, out any) *smithy.OperationSchema {
	routes := eks.New().Routes
	i := slices.IndexFunc(routes, func(s *smithy.Schema) bool { return s.ID().Name == name })
	return smithy.NewOperationSchema(routes[i], schemaOf(in), schemaOf(out))
}

// TestRESTResponsesOfTheSDK answers with what the response snapshots hold.
func TestRESTResponsesOfTheSDK(t *testing.T) {
	snaps := snapshots(t, filepath.Join(moduleDir(t, "eks"), "response_snapshot"), ".response.snap")
	n := 0
	eachOperation(clients(&far{})["eks"], func(name string, inType, outType reflect.Type, _ func(any) (any, error)) {
		n++
		out, snap := reflect.New(outType).Interface(), snaps[name]
		if err := wire.DecodeJSON([]byte(snap[1]), schemaOf(out), out); err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		res := wire.EncodeREST(operationSchema(name, reflect.New(inType).Interface(), out), out)
		body, _ := io.ReadAll(res.Body)
		if status, _, _ := strings.Cut(snap[0], "\n"); !strings.HasPrefix(res.Status, strings.TrimSpace(status)) {
			t.Errorf("%s is answered with %s, want %s", name, res.Status, status)
		}
		if kind := res.Header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("%s is answered with %s", name, kind)
		}
		if got, want := tree(t, name, body), tree(t, name, []byte(snap[1])); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", name, body, snap[1])
		}
	})
	if n != len(snaps) {
		t.Errorf("%d operations and %d snapshots", n, len(snaps))
	}
}

// TestRESTErrorsOfTheSDK refuses with every modelled error, each with its own status.
func TestRESTErrorsOfTheSDK(t *testing.T) {
	service := eks.New()
	for name, snap := range snapshots(t, filepath.Join(moduleDir(t, "eks"), "response_snapshot"), ".error.snap") {
		entry, ok := awseks.TypeRegistry.LookupEntry(name)
		if !ok {
			t.Errorf("EKS has no %s", name)
			continue
		}
		v := entry.New()
		if err := wire.DecodeJSON([]byte(snap[1]), entry.Schema, v); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		w := wire.RefuseREST(service, v.(error))
		if status, _, _ := strings.Cut(snap[0], "\n"); w.Result().Status[:3] != status {
			t.Errorf("%s is answered with %s, want %s", name, w.Result().Status, status)
		}
		if w.Header().Get("X-Amzn-Errortype") != name || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: headers %v", name, w.Header())
		}
		if got, want := tree(t, name, w.Body.Bytes()), tree(t, name, []byte(snap[1])); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", name, w.Body, snap[1])
		}
	}
}

// TestRESTIsAllThatIsModelled fails when the model of a REST service comes to hold what the protocol here leaves out.
func TestRESTIsAllThatIsModelled(t *testing.T) {
	seen := map[*smithy.Schema]bool{}
	var walk func(path string, s *smithy.Schema)
	walk = func(path string, s *smithy.Schema) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		if _, ok := smithy.SchemaTrait[*traits.JSONName](s); ok {
			t.Errorf("%s has a jsonName", path)
		}
		if _, ok := smithy.SchemaTrait[*traits.Streaming](s); ok {
			t.Errorf("%s is a stream", path)
		}
		for name, m := range s.Members() {
			walk(path+"."+name, m)
		}
	}
	eachOperation(clients(&far{})["eks"], func(name string, in, out reflect.Type, _ func(any) (any, error)) {
		walk(name, schemaOf(reflect.New(in).Interface()))
		walk(name, schemaOf(reflect.New(out).Interface()))
	})
	if len(seen) < 200 {
		t.Errorf("only %d shapes were seen", len(seen))
	}
}

// FuzzRESTRequests: no path, query or body panics.
func FuzzRESTRequests(f *testing.F) {
	f.Add("GET", "/clusters/a%2Fb?x=1", []byte(`{}`))
	f.Add("POST", "/clusters", []byte(`{"name":"n","version":1}`))
	f.Fuzz(func(t *testing.T, method, target string, body []byte) {
		r, err := http.NewRequest(method, "http://localhost"+target, bytes.NewReader(body))
		if err != nil {
			return
		}
		_, _, _ = wire.DecodeREST(eks.New(), r, func(string) (*smithy.Schema, any) {
			in := &awseks.CreateClusterInput{}
			return schemaOf(in), in
		})
	})
}
