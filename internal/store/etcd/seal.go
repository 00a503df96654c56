package etcd

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// Every value carries a checksum of its key and itself behind its JSON, "#" and eight hexadecimal digits: the pages of etcd's data file
// have none, and a row must not change by itself. Values of older versions have none.
const sealBytes = 9

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errSeal    = errors.New("its checksum does not fit")
)

func seal(key string, data []byte) string {
	return string(fmt.Appendf(data, "#%08x", checksum(key, data)))
}

// unseal returns the JSON of a value.
func unseal(key string, value []byte) ([]byte, error) {
	n := len(value) - sealBytes
	if n < 0 || value[n] != '#' {
		return value, nil
	}
	sum, err := strconv.ParseUint(string(value[n+1:]), 16, 32)
	if err != nil || uint32(sum) != checksum(key, value[:n]) {
		return nil, errSeal
	}
	return value[:n], nil
}

func checksum(key string, data []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, data)
}
