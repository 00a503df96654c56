package doctor

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAppArmor(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	on, off, parser, none := file("on", "Y\n"), file("off", "N\n"), file("parser", ""), filepath.Join(dir, "none")
	for _, c := range []struct {
		enabled, parser string
		want            Grade
	}{{none, none, OK}, {off, parser, OK}, {on, parser, OK}, {on, none, Warn}} {
		if got := apparmor(c.enabled, c.parser); len(got) != 1 || got[0].Grade != c.want || c.want == Warn && got[0].Cure == "" {
			t.Errorf("%v: %+v, want %s", c, got, c.want)
		}
	}
}
