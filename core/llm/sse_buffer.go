package llm

import (
	"io"
	"sync"
)

// A reader's buffer is of one of these sizes. It starts small, because most of a stream's life is spent
// waiting with nothing in it, and goes back to the smallest as soon as it is empty.
const (
	smallBuffer = 4 << 10 // bytes
	sizes       = 10      // 4 KiB, 8 KiB … 2 MiB; larger ones are not kept

	maxEmptyReads = 100 // in a row, of a source that returns neither bytes nor an error
)

var buffers [sizes]sync.Pool

// sizeClass is the smallest class whose buffers hold n bytes.
func sizeClass(n int) int {
	class := 0
	for smallBuffer<<class < n {
		class++
	}
	return class
}

func getBuffer(n int) *[]byte {
	class := sizeClass(n)
	if class < sizes {
		if b, ok := buffers[class].Get().(*[]byte); ok {
			return b
		}
	}
	b := make([]byte, smallBuffer<<class)
	return &b
}

func putBuffer(b *[]byte) {
	if class := sizeClass(len(*b)); class < sizes {
		buffers[class].Put(b)
	}
}

// swap exchanges the buffer for one that holds n bytes, moving what is unread; 0: for none.
func (r *Reader) swap(n int) {
	old := r.box
	r.box = nil
	if n > 0 {
		r.box = getBuffer(n)
	}
	var room []byte
	if r.box != nil {
		room = *r.box
	}
	r.end = copy(room, r.buf[r.start:r.end])
	r.start, r.buf = 0, room
	if old != nil {
		putBuffer(old)
	}
}

// fill reads once from the source into what room there is, making some if there is none.
func (r *Reader) fill() {
	unread := r.end - r.start
	switch {
	case unread == 0 && len(r.buf) != smallBuffer:
		r.swap(smallBuffer)
		r.shrink()
	case unread == 0:
		r.start, r.end = 0, 0
	case r.start > 0:
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) {
		r.swap(2 * unread)
	}
	n, err := r.src.Read(r.buf[r.end:])
	r.end += n
	r.err = err
	if n > 0 {
		r.idle = 0
	} else if r.idle++; r.idle > maxEmptyReads && err == nil {
		r.err = io.ErrNoProgress
	}
}

// grow makes room for n bytes from r.start on.
func (r *Reader) grow(n int) {
	if len(r.buf)-r.start < n {
		r.swap(n)
	}
}

// shrink lets go of what one large event left behind.
func (r *Reader) shrink() {
	const few = 32
	if cap(r.joined) > smallBuffer {
		r.joined = nil
	}
	if cap(r.view.Texts) > few {
		r.view.Texts = nil
	}
	if cap(r.view.Calls) > few {
		r.view.Calls = nil
	}
	if cap(r.view.Finishes) > few {
		r.view.Finishes = nil
	}
}
