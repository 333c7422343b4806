package lines_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/lines"
)

// A limited writer takes so many bytes and then fails until more are allowed.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	l.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space")
	}
	return n, nil
}

// The log is cut at every byte of three batches: it holds whole lines in their order, but for a last one that is torn, and
// lines written, lost and torn are all there were.
func TestPut(t *testing.T) {
	batches := []string{"a1\nb2\n", "c3\n", "", "d4\ne5\nf6\n"}
	for first := range 20 {
		for more := range 20 {
			out := &limited{left: first}
			w := lines.Writer{Out: out}
			lost := w.Put([]byte(batches[0]))
			out.left += more
			for _, b := range batches[1:] {
				lost += w.Put([]byte(b))
			}
			written := strings.Count(out.String(), "\n")
			if written+lost+w.Torn() != 6 {
				t.Errorf("room %d, then %d: %q and %d lost, %d torn; want 6 together", first, more, out.String(), lost, w.Torn())
			}
			last := ""
			for line := range strings.Lines(out.String()) {
				whole := len(line) == 3 && strings.Contains(strings.Join(batches, ""), line)
				if line <= last || !whole && (w.Torn() == 0 || !strings.HasSuffix(out.String(), line)) {
					t.Errorf("room %d, then %d: bad line %q in %q", first, more, line, out.String())
				}
				last = line
			}
			out.left = 100
			w.Put([]byte("g7\n"))
			if text := out.String(); w.Torn() != 0 || !strings.HasSuffix(text, "\ng7\n") && text != "g7\n" {
				t.Errorf("room %d, then %d: %q once there is room again", first, more, text)
			}
		}
	}
}
