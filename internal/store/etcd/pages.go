package etcd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
)

// The format of bbolt's files, version 2: pages of a size that both metas tell, each with a header of 16 bytes (number, kind, count of
// elements, how many more pages it takes) and as many elements of 16 bytes, which say where keys and values are from their own beginning
// on. Numbers are the machine's.
const (
	boltMagic, boltVersion = 0xED0CDAED, 2
	noFreelist             = ^uint64(0) // etcd writes none
	kindBranch, kindLeaf   = 1, 2
	headerBytes            = 16
	metaBytes              = 64
	maxDepth               = 64 // bbolt's pages hold two keys at least
)

// pages reads such a file without bbolt, which trusts what it reads: it panics, also on goroutines of its own, and touches memory that is
// not there. What pages reads to its end, bbolt reads too.
type pages struct {
	file  io.ReaderAt
	size  int64 // of a page, in bytes
	root  uint64
	high  uint64 // the first number that was given to no page
	seen  []bool // by number: a page belongs to one other
	yield func(bucket string, key, value []byte) error

	open   int     // pages that are being read, each below the one before it
	levels []level // of them
}

// level is memory for a page, used again for the next one at the same distance from the root.
type level struct {
	data     []byte
	elements []element
}

type element struct {
	bucket     bool
	child      uint64 // on a branch
	key, value []byte
}

// walk yields everything in etcd's data file, bucket by bucket in the order of the keys; those of "key" are in the order in which they were
// written. Keys and values are valid until f returns. An error is what kept it from reading on, or what is not as bbolt writes it.
func walk(file string, f func(bucket string, key, value []byte) error) error {
	data, err := os.Open(file)
	if err != nil {
		return err
	}
	defer data.Close()
	info, err := data.Stat()
	if err != nil {
		return err
	}
	if err := walkPages(data, info.Size(), f); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func walkPages(file io.ReaderAt, length int64, f func(bucket string, key, value []byte) error) error {
	p := &pages{file: file, yield: f}
	if err := p.begin(length); err != nil {
		return err
	}
	_, err := p.tree(p.root, nil, nil, func(e element) error {
		if !e.bucket {
			return fmt.Errorf("%q is no bucket", e.key)
		}
		return p.bucket(string(e.key), e.value)
	})
	return err
}

// begin finds the newest meta that is whole; as in bbolt, an older one counts when the newest is not.
func (p *pages) begin(length int64) error {
	var newest uint64
	try := func(at int64) error {
		b := make([]byte, headerBytes+metaBytes)
		if _, err := p.file.ReadAt(b, at); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		b = b[headerBytes:]
		number := binary.NativeEndian.Uint64
		sum := fnv.New64a()
		sum.Write(b[:56])
		size := int64(binary.NativeEndian.Uint32(b[8:]))
		if binary.NativeEndian.Uint32(b) != boltMagic || binary.NativeEndian.Uint32(b[4:]) != boltVersion || number(b[56:]) != sum.Sum64() ||
			size < 1<<10 || size > 16<<20 || at != 0 && at != size || p.size != 0 && (size != p.size || number(b[48:]) <= newest) {
			return nil
		}
		if number(b[32:]) != noFreelist {
			return errors.New("it has a list of free pages, which etcd does not write")
		}
		p.size, p.root, p.high, newest = size, number(b[16:]), number(b[40:]), number(b[48:])
		return nil
	}
	if err := try(0); err != nil {
		return err
	}
	for at := int64(1 << 10); at <= 16<<20; at *= 2 {
		if err := try(at); err != nil {
			return err
		}
	}
	switch {
	case p.size == 0:
		return errors.New("it is no database, or neither of its two beginnings is whole")
	case p.high > uint64(length/p.size):
		return fmt.Errorf("it has %d pages of %d: it was cut", length/p.size, p.high)
	}
	p.seen = make([]bool, p.high)
	return nil
}

func (p *pages) bucket(name string, value []byte) error {
	if len(value) < headerBytes {
		return fmt.Errorf("bucket %q has no root", name)
	}
	each := func(e element) error {
		if e.bucket {
			return fmt.Errorf("bucket %q has a bucket in it, which etcd does not write", name)
		}
		return p.yield(name, e.key, e.value)
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		_, err := p.tree(root, nil, nil, each)
		return err
	}
	leaf, elements, err := parse(value[headerBytes:], nil) // a small one is in its parent's page
	if err == nil && !leaf {
		err = errors.New("its page is no leaf")
	}
	if err == nil {
		_, err = ordered(elements, nil, nil, each)
	}
	if err != nil {
		return fmt.Errorf("bucket %q: %w", name, err)
	}
	return nil
}

// tree goes through the pages below one. All keys are to be low or more, and less than high if there is one; last is the greatest, and
// valid until the next page is read.
func (p *pages) tree(id uint64, low, high []byte, each func(element) error) (last []byte, err error) {
	if p.open > maxDepth {
		return nil, fmt.Errorf("page %d is too far from its root", id)
	}
	if p.open == len(p.levels) {
		p.levels = append(p.levels, level{data: make([]byte, p.size)})
	}
	at := p.open
	p.open++
	defer func() { p.open-- }()
	data, err := p.page(id, p.levels[at].data)
	if err != nil {
		return nil, err
	}
	leaf, elements, err := parse(data, p.levels[at].elements[:0])
	p.levels[at].elements = elements
	if err == nil && len(elements) == 0 && (low != nil || !leaf) {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	if leaf {
		last, err = ordered(elements, low, high, each)
	} else {
		last, err = ordered(elements, low, high, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	if leaf {
		return last, nil
	}
	for i, e := range elements {
		if i > 0 && bytes.Compare(e.key, last) <= 0 {
			return nil, fmt.Errorf("page %d: a key below the one before it", id)
		}
		end := high
		if i+1 < len(elements) {
			end = elements[i+1].key
		}
		if last, err = p.tree(e.child, e.key, end, each); err != nil {
			return nil, err
		}
	}
	return last, nil
}

// ordered calls each for one element after the other, and refuses those that are not in their order and place.
func ordered(elements []element, low, high []byte, each func(element) error) (last []byte, err error) {
	for i, e := range elements {
		if len(e.key) == 0 || i > 0 && bytes.Compare(e.key, last) <= 0 || i == 0 && bytes.Compare(e.key, low) < 0 ||
			high != nil && bytes.Compare(e.key, high) >= 0 {
			return nil, fmt.Errorf("key %d is not in its place", i)
		}
		if each != nil {
			if err := each(e); err != nil {
				return nil, err
			}
		}
		last = e.key
	}
	return last, nil
}

// page reads a page, and those that belong to it, once; data has the size of one.
func (p *pages) page(id uint64, data []byte) ([]byte, error) {
	if id < 2 || id >= p.high {
		return nil, fmt.Errorf("page %d of %d is referred to", id, p.high)
	}
	if _, err := p.file.ReadAt(data, int64(id)*p.size); err != nil {
		return nil, err
	}
	more := uint64(binary.NativeEndian.Uint32(data[12:]))
	if own := binary.NativeEndian.Uint64(data); own != id || more >= p.high-id {
		return nil, fmt.Errorf("page %d says that it is page %d and %d more", id, own, more)
	}
	for i := id; i <= id+more; i++ {
		if p.seen[i] {
			return nil, fmt.Errorf("page %d is referred to twice", i)
		}
		p.seen[i] = true
	}
	if more == 0 {
		return data, nil
	}
	data = make([]byte, p.size*int64(more+1))
	_, err := p.file.ReadAt(data, int64(id)*p.size)
	return data, err
}

// parse appends the elements of a page to those given; their keys and values are parts of data.
func parse(data []byte, to []element) (leaf bool, elements []element, err error) {
	if len(data) < headerBytes {
		return false, nil, errors.New("it is too short")
	}
	kind, count := binary.NativeEndian.Uint16(data[8:]), int(binary.NativeEndian.Uint16(data[10:]))
	if leaf = kind == kindLeaf; !leaf && kind != kindBranch {
		return false, nil, fmt.Errorf("it is of kind %#x", kind)
	}
	if headerBytes+16*count > len(data) {
		return false, nil, fmt.Errorf("it has no room for %d elements", count)
	}
	elements = slices.Grow(to, count)
	for i := range count {
		at := headerBytes + 16*i
		number := func(i int) uint64 { return uint64(binary.NativeEndian.Uint32(data[at+4*i:])) }
		e, from, keyLen, valueLen := element{}, number(0), number(1), uint64(0)
		if leaf {
			e.bucket, from, keyLen, valueLen = number(0) == 1, number(1), number(2), number(3)
			if number(0) > 1 {
				return false, nil, fmt.Errorf("element %d is of kind %#x", i, number(0))
			}
		} else {
			e.child = binary.NativeEndian.Uint64(data[at+8:])
		}
		if from += uint64(at); from+keyLen+valueLen > uint64(len(data)) {
			return false, nil, fmt.Errorf("element %d is outside", i)
		}
		e.key, e.value = data[from:from+keyLen:from+keyLen], data[from+keyLen:from+keyLen+valueLen]
		elements = append(elements, e)
	}
	return leaf, elements, nil
}
