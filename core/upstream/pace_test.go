package upstream

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A stream that was too slow for a minute is ended, whatever keeps its connection alive, and told of by its name.
func TestThroughputFloor(t *testing.T) {
	b := rawBackend(t, func(c net.Conn, _ int64) {
		text := streamHead + chunked(delta(0, "a", ""))
		for {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
			text = chunked(": wait\n\n")
			time.Sleep(5 * time.Millisecond)
		}
	})
	u := newUpstream(t, Config{
		Backends: map[string]BackendConfig{"one": {URL: b.url}},
		Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Timeouts: TimeoutsConfig{MinRate: 0.1}}},
	})
	reply, err := u.Handle(t.Context(), newCall(t, llm.Chat, chat("x", true)))
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Stream.Close()
	for range 5 { // the window begins
		if _, err := reply.Stream.Next(); err != nil {
			t.Fatal(err)
		}
	}
	s := reply.Stream.(*stream)
	s.pace.since = s.pace.since.Add(-paceWindow) // as if it had passed
	_, err = reply.Stream.Next()
	var r *pipeline.Refusal
	if !errors.Is(err, errSlow) || !errors.As(err, &r) || r.Code != "throughput_timeout" || r.HTTPStatus() != 504 {
		t.Errorf("got %v", err)
	}
	if n := counted(u.count.timeouts.WithLabelValues("one", "min_rate")); n != 1 {
		t.Errorf("%v are counted", n)
	}
	_ = reply.Stream.Close()
	waitUntil(t, func() bool { return b.closed.Load() == 1 && inflight(u) == 0 })
}
