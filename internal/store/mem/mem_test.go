package mem_test

import (
	"testing"

	"github.com/berthdev/berth/internal/store"
	"github.com/berthdev/berth/internal/store/mem"
	"github.com/berthdev/berth/internal/store/storetest"
)

func TestSuite(t *testing.T) {
	storetest.Run(t, func(testing.TB) store.Store { return mem.New(store.Schema()) })
}
