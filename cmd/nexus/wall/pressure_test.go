package wall

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// C-27: callers that do not read hold their own backend's streams up and nobody else's, and cost little memory. It
// runs before the others and alone, since it measures.
func TestCallersThatDoNotRead(t *testing.T) {
	skipIfRacing(t)
	callers := 200
	if thorough {
		callers = 500
	}
	const (
		most     = 96 << 10 // bytes of memory a stream
		underWay = 1 << 20  // bytes that the gateway's sockets may take of a stream before the backend is held up
		endless  = 1 << 20  // max_tokens of the calls that are not read
	)
	var sent sync.Map // of each stream that is held up, the bytes that went out
	var stuck atomic.Int64
	flood := tell(func(v *telling) {
		v.before[0] = func() bool {
			n := new(atomic.Int64)
			sent.Store(v.n, n)
			_ = v.conn.(*net.TCPConn).SetWriteBuffer(16 << 10) // what it holds itself does not count
			text := chunk("data: " + v.choice(`{"content":"`+strings.Repeat("x", 900)+`"}`, "", nil) + "\n\n")
			for {
				_ = v.conn.SetWriteDeadline(time.Now().Add(time.Second))
				if !v.send(text) {
					stuck.Add(1)
					_ = v.conn.SetWriteDeadline(time.Time{})
					v.silent()
					return false
				}
				n.Add(int64(len(text)))
			}
		}
	})
	main := newBackend(t, "main", func(x *asked) {
		if x.body.MaxTokens == endless {
			flood(x)
			return
		}
		well(x)
	})
	spare := newBackend(t, "spare", well)
	g := start(t, "openai", main, spare, "")
	request := func(tokens int) string { // whose answer may go on elsewhere, so that what is kept for that counts
		return fmt.Sprintf(`{"model":"chat","stream":true,"max_tokens":%d,"messages":[{"role":"user","content":"tell me"}]}`, tokens)
	}
	alone := g.pace(t, request(100)) // warm, too
	before := g.number(t, "process_resident_memory_bytes")
	conns := make([]net.Conn, callers)
	for i := range conns {
		conns[i] = lazy(t, g, request(endless))
	}
	waitUntil(t, 30*time.Second, "the backend is held up by every caller", func() bool { return stuck.Load() == int64(callers) })
	among := g.pace(t, request(100))
	per := (g.number(t, "process_resident_memory_bytes") - before) / float64(callers)
	var longest int64
	sent.Range(func(_, n any) bool { longest = max(longest, n.(*atomic.Int64).Load()); return true })
	t.Logf("%d streams held up: %.0f KiB of memory each, %d KiB on their way at most; another call took %v alone and %v among them", callers, per/1024, longest>>10, ms(alone), ms(among))
	if per > most {
		t.Errorf("a stream that is held up takes %.0f KiB, want %d at most", per/1024, most>>10)
	}
	if longest > underWay {
		t.Errorf("%d bytes of a stream went out that nobody read", longest)
	}
	if among > 10*alone+2*time.Second {
		t.Errorf("another call takes %v among them, %v alone", among, alone)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	waitUntil(t, 10*time.Second, "their calls end at the backend", func() bool { return main.busy() == 0 })
}

// lazy sends a request and reads no more than the head of its answer.
func lazy(t *testing.T, g *gateway, request string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(g.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	_, _ = fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", key, len(request), request)
	if line, err := bufio.NewReaderSize(c, 16).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("the answer begins with %q, %v", line, err)
	}
	return c
}

// pace is the median time of a few calls, one after another.
func (g *gateway) pace(t *testing.T, request string) time.Duration {
	t.Helper()
	var took []time.Duration
	for range 15 {
		a := g.call(context.Background(), request)
		if !a.ok() || a.texts[0] != fullText {
			t.Errorf("got %v", a)
		}
		took = append(took, a.took)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// C-08: what drips from a backend drips to the caller: each event as soon as it is whole, a byte at a time or not. It
// measures, too.
func TestDripsAreForwardedAtOnce(t *testing.T) {
	var mu sync.Mutex
	var sent []time.Time
	main := newBackend(t, "main", tell(func(v *telling) {
		v.words = v.words[:20]
		frame := v.frame
		v.frame = func(event string) bool {
			head, last := event[:len(event)-1], event[len(event)-1:]
			for i := range head { // byte by byte, but for the one that makes it whole
				if !v.send(chunk(head[i : i+1])) {
					return false
				}
			}
			if !v.wait(100 * time.Millisecond) {
				return false
			}
			mu.Lock()
			sent = append(sent, time.Now())
			mu.Unlock()
			return frame(last)
		}
	}))
	spare := newBackend(t, "spare", well)
	g := start(t, "openai", main, spare, "")
	r, err := http.NewRequest(http.MethodPost, g.base+"/v1/chat/completions", strings.NewReader(streamed))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var late []time.Duration
	in := bufio.NewReader(response.Body)
	for i := 0; ; i++ {
		line, err := in.ReadString('\n')
		now := time.Now()
		if err != nil {
			if err != io.EOF || i < 40 {
				t.Errorf("%d lines, then %v", i, err)
			}
			break
		}
		if i%2 == 0 && line != "\n" {
			mu.Lock()
			late = append(late, now.Sub(sent[len(late)]))
			mu.Unlock()
		}
	}
	slices.Sort(late)
	t.Logf("%d events came through after %v, at most %v", len(late), late[len(late)/2], late[len(late)-1])
	if median := late[len(late)/2]; median > 50*time.Millisecond {
		t.Errorf("an event comes through after %v, want 50 ms at most", median)
	}
}
