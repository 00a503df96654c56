package keys

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/internal/model"
	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
)

var ctx = context.Background()

type world struct {
	*Ring
	t    *testing.T
	file string
	now  time.Time
}

func setup(t *testing.T) *world {
	w := &world{t: t, file: filepath.Join(t.TempDir(), "master.key"), now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	w.Ring = w.over(mem.New(store.Schema()), Source{File: w.file})
	return w
}

func (w *world) over(s store.Store, source Source) *Ring {
	return New(Config{Store: s, Scope: model.Scope{Account: "000000000000", Region: "us-east-1"}, Master: NewMaster(s, source),
		Now: func() time.Time { return w.now }})
}

func (w *world) make(k model.KMSKey) *model.KMSKey {
	w.t.Helper()
	made, err := w.Make(ctx, &k)
	if err == nil {
		err = w.Store.Update(ctx, func(tx store.Tx) error { store.KMSKeys.Put(tx, made); return nil })
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return made
}

func TestWhatIsEncryptedComesBackWithItsContextOnly(t *testing.T) {
	w := setup(t)
	k := w.make(model.KMSKey{})
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "plain")
		said := rapid.MapOfN(rapid.StringN(1, 5, 10), rapid.StringN(0, 5, 10), 0, 3).Draw(t, "context")
		other := rapid.MapOfN(rapid.StringN(1, 5, 10), rapid.StringN(0, 5, 10), 0, 3).Draw(t, "other")
		sealed, arn, err := w.Encrypt(ctx, k.ID, plain, said)
		if err != nil || arn != w.ARN(k.ID) || len(plain) > 8 && bytes.Contains(sealed, plain) {
			t.Fatal(arn, err)
		}
		got, from, err := w.Decrypt(ctx, sealed, said)
		if err != nil || !bytes.Equal(got, plain) || from != arn {
			t.Fatalf("%q of %q: %v", got, plain, err)
		}
		if _, _, err := w.Decrypt(ctx, sealed, other); (err == nil) != bytes.Equal(canonical(said), canonical(other)) {
			t.Fatalf("context %v opens what was sealed with %v", other, said)
		}
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "at")
		sealed[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, _, err := w.Decrypt(ctx, sealed, said); model.ErrorCode(err) != "InvalidCiphertextException" {
			t.Fatalf("changed at %d: %v", i, err)
		}
	})
}

func TestRotationKeepsWhatWasEncrypted(t *testing.T) {
	w := setup(t)
	k := w.make(model.KMSKey{RotateDays: 90})
	var all [][]byte
	for i := range 4 {
		sealed, _, err := w.Encrypt(ctx, k.ID, []byte{byte(i)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, sealed)
		if err := w.Rotate(ctx, k.ID, true); err != nil {
			t.Fatal(err)
		}
	}
	again := w.over(w.Store, Source{File: w.file}) // another server, or the next start
	for i, sealed := range all {
		if got, _, err := again.Decrypt(ctx, sealed, nil); err != nil || !bytes.Equal(got, []byte{byte(i)}) {
			t.Errorf("%d: %v %v", i, got, err)
		}
	}
	w.now = w.now.AddDate(0, 0, 91)
	if _, rotated, next, err := w.Due(ctx); err != nil || len(rotated) != 1 || next.IsZero() && false {
		t.Errorf("rotated %v, %v", rotated, err)
	}
	if _, rotated, next, err := w.Due(ctx); err != nil || len(rotated) != 0 || !next.Equal(w.now.AddDate(0, 0, 90)) {
		t.Errorf("rotated again %v, next %v, %v", rotated, next, err)
	}
	if _, _, err := w.Decrypt(ctx, all[0], nil); err != nil {
		t.Error(err)
	}
}

func TestStatesOfKeys(t *testing.T) {
	w := setup(t)
	k := w.make(model.KMSKey{})
	sealed, _, err := w.Encrypt(ctx, k.ID, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*model.KMSKey)) {
		if err := w.Change(ctx, k.ID, func(k *model.KMSKey) error { f(k); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	both := func(code string) {
		t.Helper()
		_, _, err1 := w.Encrypt(ctx, k.ID, nil, nil)
		_, _, err2 := w.Decrypt(ctx, sealed, nil)
		if model.ErrorCode(err1) != code || model.ErrorCode(err2) != code {
			t.Errorf("%v, %v, want %s", err1, err2, code)
		}
	}
	change(func(k *model.KMSKey) { k.Disabled = true })
	both("DisabledException")
	change(func(k *model.KMSKey) { k.DeleteAt = w.now.AddDate(0, 0, 7) })
	both("KMSInvalidStateException")
	if deleted, _, next, err := w.Due(ctx); len(deleted) > 0 || err != nil || !next.Equal(w.now.AddDate(0, 0, 7)) {
		t.Errorf("too early: %v %v %v", deleted, next, err)
	}
	w.now = w.now.AddDate(0, 0, 7)
	if deleted, _, _, err := w.Due(ctx); len(deleted) != 1 || err != nil {
		t.Errorf("deleted %v, %v", deleted, err)
	}
	if _, err := w.Describe(k.ID); model.ErrorCode(err) != "NotFoundException" {
		t.Error(err)
	}
	if _, _, err := w.Decrypt(ctx, sealed, nil); model.ErrorCode(err) != "InvalidCiphertextException" {
		t.Error(err)
	}
}

func TestNamesOfKeys(t *testing.T) {
	w := setup(t)
	_, sealed, arn, err := w.GenerateDataKey(ctx, "alias/aws/ecr", map[string]string{"a": "b"}, 32)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := w.Decrypt(ctx, sealed, map[string]string{"a": "b"}); err != nil || len(got) != 32 {
		t.Error(len(got), err)
	}
	id := model.ARNTail(arn)
	for _, name := range []string{"alias/aws/ecr", "arn:aws:kms:us-east-1:000000000000:alias/aws/ecr", id, arn} {
		if k, err := w.Describe(name); err != nil || k.ID != id || k.Service != "ecr" || k.State != Enabled {
			t.Errorf("%s: %+v %v", name, k, err)
		}
	}
	for _, name := range []string{"", "x", "alias/none", "alias/aws/nosuch", "arn:aws:kms:eu-west-1:000000000000:key/" + id, "arn:", newID()} {
		if _, err := w.Describe(name); model.ErrorCode(err) != "NotFoundException" {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestMasterKeys(t *testing.T) {
	w := setup(t)
	k := w.make(model.KMSKey{})
	sealed, _, err := w.Encrypt(ctx, k.ID, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(w.file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	raw, _ := os.ReadFile(w.file)
	other := filepath.Join(t.TempDir(), "master.key")
	lacking := w.over(w.Store, Source{File: other})
	if _, _, err := lacking.Decrypt(ctx, sealed, nil); !errors.Is(err, ErrNoMaster) || !lacking.Master.Lacks() {
		t.Errorf("without the file: %v", err)
	}
	if err := os.WriteFile(other, []byte(strings.Repeat("x", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := lacking.Decrypt(ctx, sealed, nil); !errors.Is(err, ErrOtherMaster) || strings.Contains(err.Error(), "xxxx") {
		t.Errorf("with another: %v", err)
	}
	if err := lacking.Master.Take([]byte("yyyyyyyyyyyyyyyyyyyyyy")); !errors.Is(err, ErrOtherMaster) {
		t.Errorf("took another: %v", err)
	}
	given, err := w.Master.File()
	if err != nil || lacking.Master.Take(given) != nil || lacking.Master.Lacks() {
		t.Errorf("the cluster's was not taken: %v", err)
	}
	if _, _, err := lacking.Decrypt(ctx, sealed, nil); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(other, 0o644); err != nil {
		t.Fatal(err)
	}
	open := w.over(w.Store, Source{File: other})
	if _, _, err := open.Decrypt(ctx, sealed, nil); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others read: %v", err)
	}
	printed := w.over(w.Store, Source{Command: "cat " + w.file})
	if got, _, err := printed.Decrypt(ctx, sealed, nil); err != nil || string(got) != "x" {
		t.Errorf("by a command: %q %v", got, err)
	}
	failing := w.over(w.Store, Source{Command: "false"})
	if _, _, err := failing.Decrypt(ctx, sealed, nil); err == nil {
		t.Error("a command that fails")
	}
	if bytes.Contains(sealed, bytes.TrimSpace(raw)) {
		t.Error("a ciphertext holds the master key")
	}
}

func TestPassphrase(t *testing.T) {
	w := setup(t)
	s := mem.New(store.Schema())
	one, same, other := w.over(s, Source{Passphrase: "correct horse battery"}), w.over(s, Source{Passphrase: "correct horse battery"}),
		w.over(s, Source{Passphrase: "incorrect horse battery"})
	sealed, _, err := one.Encrypt(ctx, "alias/aws/ssm", []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := same.Decrypt(ctx, sealed, nil); err != nil || string(got) != "x" {
		t.Errorf("%q %v", got, err)
	}
	if _, _, err := other.Decrypt(ctx, sealed, nil); !errors.Is(err, ErrOtherMaster) {
		t.Error(err)
	}
	if err := w.over(mem.New(store.Schema()), Source{Passphrase: "short"}).Master.Ensure(ctx); err == nil {
		t.Error("a short passphrase")
	}
}

func TestParseSource(t *testing.T) {
	for text, ok := range map[string]bool{"": true, "file:/k": true, "command:print-key --id 3": true, "file:k": false, "command: ": false, "x": false, "file:": false} {
		if _, err := ParseSource(text, "/d", ""); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzDecrypt: whatever a client calls a ciphertext is refused.
func FuzzDecrypt(f *testing.F) {
	w := &world{file: filepath.Join(f.TempDir(), "m"), now: time.Now()}
	w.Ring = w.over(mem.New(store.Schema()), Source{File: w.file})
	sealed, _, err := w.Encrypt(ctx, "alias/aws/ssm", []byte("plain"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:headSize])
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, _, err := w.Decrypt(ctx, data, nil); err != nil && model.ErrorCode(err) != "InvalidCiphertextException" {
			t.Error(err)
		}
		_ = w.KeyOf(data)
	})
}
