package etcd

import (
	"fmt"

	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mirror"
)

// Peek reads the rows in dir while no etcd runs there, without what was committed within the last 100 ms before it ended. Damaged rows are
// left out.
func Peek(dir string, kinds []store.Kind) (store.Reader, error) {
	rows, _, err := Salvage(dir, kinds)
	if err != nil {
		return nil, err
	}
	state, err := mirror.New(kinds, 0)
	if err != nil {
		return nil, err
	}
	l := &loader{parts: map[place]any{}, whole: map[place]bool{}, tx: state.Begin()}
	byName := named(kinds)
	for _, pass := range []bool{true, false} { // parts first
		for key, value := range rows {
			i, isPart, known := locate(byName, key)
			if !known || isPart != pass {
				continue
			}
			if i, _, err = read(byName, key, []byte(value)); err != nil {
				return nil, fmt.Errorf("row %s of table %s: %w", i.key, i.table, err)
			}
			if isPart {
				l.part(i)
			} else {
				l.row(i)
			}
		}
	}
	return l.tx.Commit().Reader(), nil
}
