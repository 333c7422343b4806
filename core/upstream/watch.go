package upstream

import (
	"context"
	"errors"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// A watch is one attempt's hold on its connection. It bounds each phase by the connection's deadline,
// and breaks the connection when the caller leaves.
type watch struct {
	ctx      context.Context // the caller's
	timeouts TimeoutsConfig
	wire     *wire
	conn     *conn
	last     time.Time // when the whole attempt must be over; zero: never
	phase    *lateness // what to say when the deadline passes
	unhook   func() bool
	broken   atomic.Bool
}

func newWatch(ctx context.Context, t TimeoutsConfig, w *wire) *watch {
	out := &watch{ctx: ctx, timeouts: t, wire: w, phase: errConnect}
	if t.Total > 0 {
		out.last = time.Now().Add(t.Total)
	}
	return out
}

// hold takes over a connection.
func (w *watch) hold(c *conn) {
	w.conn = c
	w.broken.Store(false)
	w.unhook = context.AfterFunc(w.ctx, w.abort)
}

// abort breaks the connection at once, which a read or write that waits on it notices. The backend sees
// its client leave and stops its work.
func (w *watch) abort() {
	w.broken.Store(true)
	_ = w.conn.Close()
}

// sent begins the wait for the response's headers. The headers of a stream may come as late as its first token, and
// no later.
func (w *watch) sent(at time.Time, streamed bool) {
	d, phase := w.first(streamed)
	if h := w.timeouts.Headers; d == 0 || h > 0 && h < d {
		d, phase = h, errHeaders
	}
	w.enter(at, d, phase)
}

// begun begins the wait for the first event or the whole body.
func (w *watch) begun(at time.Time, streamed bool) {
	d, phase := w.first(streamed)
	w.enter(at, d, phase)
}

func (w *watch) first(streamed bool) (time.Duration, *lateness) {
	if streamed {
		return w.timeouts.FirstToken, errFirstToken
	}
	return w.timeouts.Answer, errAnswer
}

// enter begins a phase that may last d from start; 0 lets it last as long as the whole.
func (w *watch) enter(start time.Time, d time.Duration, phase *lateness) {
	var end time.Time
	if d > 0 {
		end = start.Add(d)
	}
	w.until(end, phase)
}

// until begins a phase that ends at end, or with the whole if that is sooner; zero: with the whole.
func (w *watch) until(end time.Time, phase *lateness) {
	w.phase = phase
	if end.IsZero() || !w.last.IsZero() && !end.Before(w.last) {
		end, w.phase = w.last, errTotal
	}
	_ = w.conn.SetDeadline(end)
}

// cause returns why a read or write failed: the caller left, a phase overran, or the error itself.
func (w *watch) cause(err error) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return w.phase
	}
	return err
}

// drop lets go of the connection and closes it.
func (w *watch) drop() {
	if w.unhook != nil {
		w.unhook()
		_ = w.conn.Close()
	}
}

// keep lets go of the connection and keeps it for the next call, if it is still good.
func (w *watch) keep(r *http.Response) {
	if w.unhook() && !w.broken.Load() && reusable(r) {
		w.wire.put(w.conn)
		return
	}
	_ = w.conn.Close()
}
