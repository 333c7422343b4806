package llm

import (
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Many goroutines intern more names than there is room for; each must get its own name back.
func TestInternHammer(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			buf := make([]byte, 0, 32)
			for i := range 20_000 {
				buf = strconv.AppendInt(append(buf[:0], "name-"...), int64(i*(g%3+1)%5000), 10)
				want := string(buf)
				got := intern(buf)
				buf[0] = 'X' // what was interned must not point here
				if got != want {
					t.Errorf("got %q, want %q", got, want)
					return
				}
			}
		})
	}
	wg.Wait()
	if long := strings.Repeat("x", longestInterned+1); intern([]byte(long)) != long || intern(nil) != "" {
		t.Error("a long or an empty name is not itself")
	}
}
