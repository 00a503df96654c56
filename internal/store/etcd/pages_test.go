package etcd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// asEtcd is how etcd opens its data file: without a list of free pages, which is made from all pages then.
var asEtcd = &bolt.Options{NoFreelistSync: true, NoSync: true, FreelistType: bolt.FreelistMapType, PageSize: 1 << 10}

// boltFile makes one with buckets of many pages, of long values, of a few keys (within their parent's page) and of none, and with free pages.
func boltFile(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(file, 0o600, asEtcd)
	must(t, err)
	random := rand.New(rand.NewPCG(3, 4))
	for range 25 {
		must(t, db.Update(func(tx *bolt.Tx) error {
			for name, keys := range map[string]int{"key": 400, "long": 6, "meta": 3, "none": 0} {
				bucket, err := tx.CreateBucketIfNotExists([]byte(name))
				for i := 0; i < keys/5 && err == nil; i++ {
					key := binary.BigEndian.AppendUint32([]byte("k"), random.Uint32N(uint32(keys)))
					if random.IntN(4) == 0 {
						err = bucket.Delete(key)
						continue
					}
					size := 40
					if name == "long" {
						size = 3000
					}
					err = bucket.Put(key, bytes.Repeat([]byte{byte(i)}, random.IntN(size)))
				}
				if err == nil && name == "meta" {
					err = bucket.Put([]byte("index"), []byte("17"))
				}
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
	must(t, db.Close())
	return file
}

// boltReads is everything in a file as bbolt reads it.
func boltReads(t testing.TB, file string) map[string]string {
	t.Helper()
	db, err := bolt.Open(file, 0o600, asEtcd)
	must(t, err)
	all := map[string]string{}
	must(t, db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, bucket *bolt.Bucket) error {
			return bucket.ForEach(func(key, value []byte) error {
				all[fmt.Sprintf("%s/%x", name, key)] = string(value)
				if got := bucket.Get(key); !bytes.Equal(got, value) {
					t.Errorf("%s: key %x is not found again", name, key)
				}
				return nil
			})
		})
	}))
	must(t, db.Close())
	return all
}

func pagesRead(data []byte) (map[string]string, error) {
	all := map[string]string{}
	return all, walkPages(bytes.NewReader(data), int64(len(data)), func(bucket string, key, value []byte) error {
		all[fmt.Sprintf("%s/%x", bucket, key)] = string(value)
		return nil
	})
}

// sameAsBolt: data is refused, or bbolt reads the same in it, and harms nobody.
func sameAsBolt(t testing.TB, data []byte) (read bool) {
	t.Helper()
	all, err := pagesRead(data)
	if err != nil {
		return false
	}
	file := filepath.Join(t.TempDir(), "db")
	must(t, os.WriteFile(file, data, 0o600))
	if got := boltReads(t, file); !maps.Equal(got, all) {
		t.Errorf("%d keys were read, and by bbolt %d others", len(all), len(got))
	}
	return true
}

func TestPagesReadWhatBoltWrote(t *testing.T) {
	file := boltFile(t)
	want := boltReads(t, file)
	data, err := os.ReadFile(file)
	must(t, err)
	got, err := pagesRead(data)
	if err != nil || !maps.Equal(got, want) || len(want) < 200 {
		t.Errorf("%d keys of %d, %v", len(got), len(want), err)
	}
}

// TestPagesThatWereCut at any length are refused, or nothing is missing.
func TestPagesThatWereCut(t *testing.T) {
	data, err := os.ReadFile(boltFile(t))
	must(t, err)
	for n := 0; n < len(data); n += 509 {
		sameAsBolt(t, data[:n])
	}
}

// TestFlippedPages: a bit that changes anywhere is noticed, or bbolt reads what we read.
func TestFlippedPages(t *testing.T) {
	data, err := os.ReadFile(boltFile(t))
	must(t, err)
	random := rand.New(rand.NewPCG(5, 6))
	read := 0
	const flips = 1000
	for range flips {
		at, bit := random.IntN(len(data)), byte(1)<<random.IntN(8)
		if random.IntN(2) == 0 {
			at = at&^(1<<10-1) | random.IntN(64) // headers and elements matter most
		}
		data[at] ^= bit
		if sameAsBolt(t, data) {
			read++
		}
		data[at] ^= bit
	}
	t.Logf("%d of %d were noticed in %d bytes", flips-read, flips, len(data))
}

// FuzzPages changes a file in many places; what is not refused, bbolt reads too.
func FuzzPages(f *testing.F) {
	data, err := os.ReadFile(boltFile(f))
	must(f, err)
	f.Add([]byte{1, 0, 0, 12, 3})
	f.Fuzz(func(t *testing.T, changes []byte) {
		data := bytes.Clone(data)
		for ; len(changes) >= 4; changes = changes[4:] { // a page, a place in it, a change
			page, at := int(changes[0]), int(binary.BigEndian.Uint16(changes[1:]))%(1<<10)
			if changes[3] != 0 && page<<10 < len(data) {
				data[page<<10|at] ^= changes[3]
			}
		}
		for page := range 2 { // a changed beginning is believed
			seal64(data[page<<10:])
		}
		sameAsBolt(t, data)
	})
}

// seal64 makes the checksum of a meta page right.
func seal64(page []byte) {
	sum := fnv.New64a()
	sum.Write(page[headerBytes : headerBytes+56])
	binary.NativeEndian.PutUint64(page[headerBytes+56:], sum.Sum64())
}
