package llm

import (
	"hash/maphash"
	"math/rand/v2"
	"sync/atomic"
)

// interned keeps one string of each name seen lately, so that reading a name off a body costs no
// allocation and yet the string does not point into a buffer that will be used again. A name may stand
// in any place of its row; when the row is full it takes another's. So hostile names cost an allocation
// each and no memory.
var interned [256][4]atomic.Pointer[string]

const longestInterned = 64 // bytes

func intern(b []byte) string { return internHash(maphash.Bytes(seed, b), b) }

// internHash is intern for those who have b's hash already.
func internHash(hash uint64, b []byte) string {
	if len(b) == 0 || len(b) > longestInterned {
		return string(b)
	}
	row := &interned[hash%uint64(len(interned))]
	place := -1
	for i := range row {
		p := row[i].Load()
		if p == nil {
			place = i
			break
		}
		if *p == string(b) {
			return *p
		}
	}
	if place < 0 { // by chance, so that two names in use do not evict each other for ever
		place = rand.IntN(len(row))
	}
	s := string(b)
	row[place].Store(&s)
	return s
}
