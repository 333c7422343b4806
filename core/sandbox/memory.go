package sandbox

import (
	"bytes"

	"github.com/tetratelabs/wazero/experimental"
)

// A resettable is a guest's memory that can be put back to what it held when the guest had started.
type resettable interface {
	experimental.LinearMemory // what wazero asks of it; Free may be called twice
	// keep notes what the memory holds now, and shares what like holds, the image of another guest's memory, if
	// that is the same. If like is nil it returns an image for others to share, which the caller closes when every
	// memory that was given it is freed; otherwise it returns like. After an error the memory must not be used.
	keep(like *image) (*image, error)
	// reset puts back what the memory held, and gives it as it was; nil if it cannot. What it has grown by since is
	// zero when it grows again.
	reset() []byte
}

// A heapMemory lies in Go's heap and is put back by a copy of all of it. It stands in on systems where there is
// nothing better.
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

func (m *heapMemory) keep(like *image) (*image, error) {
	m.kept = bytes.Clone(m.b)
	if like == nil {
		like = noImage()
	}
	return like, nil
}

func (m *heapMemory) reset() []byte {
	clear(m.b[copy(m.b, m.kept):])
	m.b = m.b[:len(m.kept)]
	return m.b
}
