package plugin

import (
	"sync"
	"time"
)

// Bounds of what one plugin may log.
const (
	maxLogLine  = 512 // bytes
	maxLogLines = 100 // a second
)

// logLine is the host function log. A line costs fuel whether it is written or not, and is cut where it is too long.
func (p *plugin) logLine(h host) (uint64, error) {
	h.args[1] = min(h.args[1], maxLogLine)
	line, err := h.bytes("line", 0, maxLogLine)
	if err != nil {
		return 0, err
	}
	h.g.Charge(1000 + 10*uint64(len(line)))
	open, lost := p.tap.draw(time.Now().Unix())
	if lost > 0 {
		p.log.Warn("a plugin logs too much; lines were dropped", "plugin", p.name, "lines", lost)
	}
	if open {
		p.log.Info(printable(line), "plugin", p.name)
	}
	return 0, nil
}

// A tap lets so many lines through in a second, so that a plugin gone wild fills no disk. The zero value
// is ready.
type tap struct {
	mu     sync.Mutex
	second int64
	lines  int // of this second, those dropped included
}

// draw reports whether one more line may pass, and with the first line of a second how many were dropped
// in the last one that had lines.
func (t *tap) draw(second int64) (open bool, lost int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if second != t.second {
		lost = max(0, t.lines-maxLogLines)
		t.second, t.lines = second, 0
	}
	t.lines++
	return t.lines <= maxLogLines, lost
}
