package etcd

import (
	"fmt"

	"github.com/berthdev/berth/internal/model"
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
	state, _, err := stateOf(rows, kinds)
	if err != nil {
		return nil, err
	}
	return state.Reader(), nil
}

// Edit changes rows, keys and values as Rows and Salvage give them, before they are put in place.
func Edit(rows map[string]string, kinds []store.Kind, f func(store.Tx)) error {
	state, whole, err := stateOf(rows, kinds)
	if err != nil {
		return err
	}
	tx := state.Begin()
	f(tx)
	pieces := piecesOf(kinds)
	for _, c := range tx.Changes() {
		for _, piece := range pieces.of(c, whole[place{c.Table, c.Key}]) {
			if piece.value == nil {
				delete(rows, piece.key)
				continue
			}
			data, err := model.EncodeRow(piece.value)
			if err != nil {
				return fmt.Errorf("encode %s of table %s: %w", c.Key, c.Table, err)
			}
			rows[piece.key] = seal(piece.key, data)
		}
	}
	return nil
}

// stateOf is the state that rows make; whole are those that are stored in one piece though their table has parts.
func stateOf(rows map[string]string, kinds []store.Kind) (*mirror.State, map[place]bool, error) {
	state, err := mirror.New(kinds, 0)
	if err != nil {
		return nil, nil, err
	}
	l := &loader{parts: map[place]any{}, whole: map[place]bool{}, tx: state.Begin()}
	byName := named(kinds)
	for _, parts := range []bool{true, false} { // first, so that rows are whole when they are put
		for key, value := range rows {
			i, isPart, known := locate(byName, key)
			if !known || isPart != parts {
				continue
			}
			if i, _, err = read(byName, key, []byte(value)); err != nil {
				return nil, nil, fmt.Errorf("row %s of table %s: %w", i.key, i.table, err)
			}
			if isPart {
				l.part(i)
			} else {
				l.row(i)
			}
		}
	}
	return l.tx.Commit(), l.whole, nil
}
