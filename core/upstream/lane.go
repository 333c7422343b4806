package upstream

import "sync"

// A lane is a text in pieces, so that it grows without leaving what it outgrew behind.
type lane struct {
	pieces []*piece
	size   int // bytes
}

type piece [2 << 10]byte

var pieces = sync.Pool{New: func() any { return new(piece) }}

func (l *lane) add(text []byte) {
	for len(text) > 0 {
		at := l.size % len(piece{})
		if at == 0 {
			l.pieces = append(l.pieces, pieces.Get().(*piece))
		}
		n := copy(l.pieces[len(l.pieces)-1][at:], text)
		l.size, text = l.size+n, text[n:]
	}
}

// whole is the text in one.
func (l *lane) whole() []byte {
	out := make([]byte, 0, l.size)
	for _, p := range l.pieces {
		out = append(out, p[:min(len(p), l.size-len(out))]...)
	}
	return out
}

// clear gives the pieces to others.
func (l *lane) clear() {
	for _, p := range l.pieces {
		pieces.Put(p)
	}
	*l = lane{}
}
