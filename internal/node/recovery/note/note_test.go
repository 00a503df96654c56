package note

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berthdev/berth/internal/node/process"
)

func TestNotes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if _, begun := Read(path); begun {
		t.Fatal("a note before Begin")
	}
	if err := End(path, Note{ExitCode: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("the end of a container that is deleted was noted")
	}
	if err := Begin(path, process.ID{PID: 7, Started: 9}); err != nil {
		t.Fatal(err)
	}
	if n, begun := Read(path); !begun || n.Exited || n.Process.PID != 7 {
		t.Fatalf("%+v %v after Begin", n, begun)
	}
	want := Note{Exited: true, ExitCode: 137, FinishedAt: time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC), OOMKilled: true}
	if err := End(path, want); err != nil {
		t.Fatal(err)
	}
	if err := Begin(path, process.ID{PID: 7, Started: 9}); err != nil { // a Start that is repeated
		t.Fatal(err)
	}
	if n, begun := Read(path); !begun || n != want {
		t.Fatalf("%+v %v, want %+v", n, begun, want)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamagedNotes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	for text, want := range map[string]Note{
		"":                                 {},
		`{"exited":tr`:                     {},
		`{"exited":true,"exitCode":3}e":1`: {Exited: true, ExitCode: 3},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, begun := Read(path); !begun || n != want {
			t.Errorf("%q: %+v %v, want %+v", text, n, begun, want)
		}
	}
}
