package upstream

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
)

// What streams keep together is bounded: few may keep much, many each a little, and what one gives back another has.
func TestCommons(t *testing.T) {
	const large = 1 << 20 // bytes that each would like to keep
	for _, tt := range []struct{ streams, large int }{{1, 1}, {4, 4}, {5, 4}, {1000, 11}} {
		c := new(commons)
		loans := make([]*loan, tt.streams)
		for i := range loans {
			loans[i] = c.lend()
		}
		kept, whole := 0, 0
		for _, l := range loans {
			n := l.cover(large)
			if n < privateKept {
				t.Fatalf("%d streams: one may keep %d bytes", tt.streams, n)
			}
			if kept += min(n, large); n >= large {
				whole++
			}
		}
		if most := basicKept + tt.streams*(privateKept+commonKept); kept > most || whole != tt.large {
			t.Errorf("%d streams keep %d bytes, want %d at most; %d keep all they like, want %d", tt.streams, kept, most, whole, tt.large)
		}
		for range 2 { // twice is once
			loans[0].end()
		}
		if n := loans[0].cover(1); n != 0 {
			t.Errorf("one that is over may keep %d bytes", n)
		}
		if last := loans[tt.streams-1]; tt.streams > 1 && last.cover(large) < large/2 {
			t.Errorf("%d streams: what one gave back is not to be had", tt.streams)
		}
		for _, l := range loans {
			l.end()
		}
		if c.taken.Load() != 0 || c.streams.Load() != 0 {
			t.Errorf("%d bytes of %d streams are left", c.taken.Load(), c.streams.Load())
		}
	}
}

func TestCommonsHammer(t *testing.T) {
	c := new(commons)
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for range 500 {
				l := c.lend()
				var both sync.WaitGroup
				both.Go(func() {
					for range 20 {
						l.cover(rand.IntN(1 << 20))
					}
				})
				both.Go(l.end)
				both.Wait()
			}
		})
	}
	users.Wait()
	if c.taken.Load() != 0 || c.streams.Load() != 0 {
		t.Errorf("%d bytes of %d streams are left", c.taken.Load(), c.streams.Load())
	}
}

func TestLane(t *testing.T) {
	var l, other lane
	want := ""
	for n := range 300 {
		text := strings.Repeat(string(rune('a'+n%26)), n*7%101)
		want += text
		l.add([]byte(text))
	}
	if got := string(l.whole()); got != want || l.size != len(want) {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
	l.clear()
	other.add([]byte("x"))
	if l.size != 0 || len(l.whole()) != 0 || string(other.whole()) != "x" {
		t.Errorf("%d bytes after clear, then %q", l.size, other.whole())
	}
}

// However a stream ends, it gives back what it kept; and where others have all there is, a long answer goes on no more, and
// a short one does.
func TestStreamsGiveBackWhatTheyKeep(t *testing.T) {
	for _, fault := range []string{"none", "die-after=7", "error-in-band=7", "context-length"} {
		u, _, _ := pair(t, "vllm", "fault="+fault, nil)
		_, _, _ = listen(t, u, llm.Chat, fmt.Sprintf(chatBody, ""))
		if c := &u.fleet.commons; c.taken.Load() != 0 || c.streams.Load() != 0 {
			t.Errorf("%s: %d bytes of %d streams are left", fault, c.taken.Load(), c.streams.Load())
		}
	}
	for words, continued := range map[int]int{7: 1, privateKept / 2: 0} {
		u, _, _ := pair(t, "vllm", fmt.Sprintf("tokens=%d fault=die-after=%d", 2*words, words), nil)
		u.fleet.commons.taken.Store(basicKept + commonKept)
		_, c, _ := listen(t, u, llm.Chat, `{"model":"mock","stream":true,"messages":[{"role":"user","content":"tell"}]}`)
		if c.Outcome.Continued != continued {
			t.Errorf("after %d words: %+v", words, c.Outcome)
		}
	}
}
