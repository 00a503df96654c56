package acked

import (
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

func op(write bool, value string, call, end int64) porcupine.Operation {
	o := porcupine.Operation{Input: input{"r0", write, value}, Call: call, Return: end}
	if !write {
		o.Input, o.Output = input{key: "r0"}, value
	}
	return o
}

// What a lost write, an old read and a write that took effect later look like.
func TestRegisters(t *testing.T) {
	for name, c := range map[string]struct {
		ops []porcupine.Operation
		ok  bool
	}{
		"read what was written": {[]porcupine.Operation{op(true, "a", 1, 2), op(false, "a", 3, 4)}, true},
		"a lost write":          {[]porcupine.Operation{op(true, "a", 1, 2), op(true, "b", 3, 4), op(false, "a", 5, 6)}, false},
		"an old read after a new one": {[]porcupine.Operation{op(true, "a", 1, 2), op(true, "b", 3, 10), op(false, "b", 4, 5),
			op(false, "a", 6, 7)}, false},
		"an unknown outcome that happened":       {[]porcupine.Operation{op(true, "a", 1, 2), op(true, "b", 3, unknown), op(false, "a", 4, 5), op(false, "b", 6, 7)}, true},
		"an unknown outcome that did not":        {[]porcupine.Operation{op(true, "a", 1, 2), op(true, "b", 3, unknown), op(false, "a", 4, 5)}, true},
		"an unknown outcome that was taken back": {[]porcupine.Operation{op(true, "a", 1, 2), op(true, "b", 3, unknown), op(false, "b", 4, 5), op(false, "a", 6, 7)}, false},
	} {
		h := &History{ops: c.ops}
		if err := h.registers(); (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "r0 is not linearizable") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSets(t *testing.T) {
	h := &History{created: map[string]created{"a": {1, 2}, "b": {3, 0}}}
	for _, c := range []struct {
		list listed
		ok   bool
	}{
		{listed{3, 4, []string{"a"}}, true}, {listed{3, 4, []string{"a", "b"}}, true}, {listed{1, 2, nil}, true},
		{listed{3, 4, nil}, false}, {listed{1, 2, []string{"a", "b"}}, false},
	} {
		h.lists = []listed{c.list}
		if err := h.sets(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.list, err)
		}
	}
	if d := time.Duration(unknown); d < 0 {
		t.Error("unknown is no time")
	}
}
