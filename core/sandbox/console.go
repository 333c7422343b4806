package sandbox

import "bytes"

const (
	maxLine    = 1 << 10  // bytes of one line of a guest's output
	maxConsole = 16 << 10 // bytes of a guest's output in one call; more is dropped
)

// A console gathers what a guest writes into lines.
type console struct {
	line    []byte
	written int
}

// write takes a guest's output, hands whole lines to log, and returns what it cost.
func (c *console) write(b []byte, log func([]byte)) (units uint64) {
	if log == nil {
		return 1
	}
	b = b[:min(len(b), maxConsole-c.written)]
	c.written += len(b)
	for rest := b; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		c.line = append(c.line, line[:min(len(line), maxLine-len(c.line))]...)
		if ended {
			c.emit(log)
		}
		rest = after
	}
	return uint64(len(b)) * 4
}

func (c *console) emit(log func([]byte)) {
	if len(c.line) > 0 {
		log(c.line)
	}
	c.line = c.line[:0]
}

// flush ends the line that was begun, and the call whose bound it counts to.
func (c *console) flush(log func([]byte)) {
	if c.written == 0 {
		return
	}
	c.emit(log)
	c.written = 0
}
