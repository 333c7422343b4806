package sandbox

import (
	"bytes"

	"github.com/tetratelabs/wazero/experimental"
)

// A resettable is a guest's memory that can be put back to what it held when the guest had started.
type resettable interface {
	experimental.LinearMemory // what wazero asks of it; Free may be called twice
	// keep notes what the memory holds now, and shares what like holds, the image of another guest's memory, if
	// that is the same. If like is nil it may return an image for others to share, which the caller closes when
	// every memory that was given it is freed; otherwise it returns like.
	keep(like *image) *image
	// reset puts the memory back; false if it cannot, because its size is another.
	reset() bool
}

// A heapMemory lies in Go's heap and is put back by a copy of all of it. It stands in where there is nothing
// better.
type heapMemory struct{ b, kept []byte }

var _ resettable = (*heapMemory)(nil)

func (m *heapMemory) Reallocate(size uint64) []byte {
	if size > uint64(cap(m.b)) {
		m.b = append(m.b[:len(m.b):len(m.b)], make([]byte, size-uint64(len(m.b)))...)
	}
	m.b = m.b[:size]
	return m.b
}

func (m *heapMemory) Free() { m.b, m.kept = nil, nil }

func (m *heapMemory) keep(like *image) *image {
	m.kept = bytes.Clone(m.b)
	return like
}

func (m *heapMemory) reset() bool {
	if len(m.b) != len(m.kept) {
		return false
	}
	copy(m.b, m.kept)
	return true
}
