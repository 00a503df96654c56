package app

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/serve/scan"
	"github.com/berthdev/berth/internal/serve/scan/vulndb"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

func TestRuleForImagesThatAreRun(t *testing.T) {
	rows := mem.New(store.Schema())
	t.Cleanup(func() { rows.Close() })
	db, err := vulndb.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	scanner, err := scan.New(scan.Config{Dir: t.TempDir(), DB: db, Now: time.Now, Log: slog.New(slog.DiscardHandler), Enhanced: func() bool { return false },
		Layers: func(context.Context, *model.Image) ([]scan.Layer, error) {
			return []scan.Layer{{Digest: "sha256:l", Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(&bytes.Buffer{}), nil }}}, nil
		},
		Work: func(_ context.Context, in io.Reader) ([]byte, error) {
			_, err := io.Copy(io.Discard, in)
			return []byte("{}"), err
		}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s := runRules{rows, scanner}
	s.serve(mux)
	ask := func(method, query, want string) {
		t.Helper()
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, "/registry/rule?"+query, nil))
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s %s: %d %s, want %s", method, query, w.Code, w.Body, want)
		}
	}
	img := &model.Image{Repository: "app", Digest: "sha256:" + strings.Repeat("a", 64)}
	may := func(says string) {
		t.Helper()
		if err := s.mayRun(t.Context(), img); (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("run: %v, want %q", err, says)
		}
	}
	ask("GET", "", "null")
	may("")
	ask("POST", "max-severity=WORST", "want one of")
	ask("POST", "max-severity=HIGH", "HIGH")
	ask("GET", "", "HIGH")
	may("a scan has begun")
	scanner.Wait()
	may("")
	if err := s.mayRun(t.Context(), &model.Image{Digest: "index", Children: []string{"x"}}); err != nil {
		t.Errorf("an index: %v", err)
	}
	ask("POST", "off=1", "null")
	img.Digest = "sha256:" + strings.Repeat("b", 64)
	may("")
}
