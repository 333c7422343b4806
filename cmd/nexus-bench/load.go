package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"sync"
	"time"
)

// A target is where load goes and what it asks.
type target struct {
	addr, path, key string
}

// A result is what one run saw; its workers share it.
type result struct {
	mu      sync.Mutex // guards all of it while they work
	calls   int        // that ended well
	errors  int
	first   error // the first error
	events  int
	took    time.Duration
	latency histogram // of calls; in an open loop from the time each was due
	late    histogram // of events: how much later than the pace each came, against the stream's first
}

// note counts a call that took d, and says whether its worker should stop.
func (r *result) note(err error, d time.Duration) (stop bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latency.add(d)
	if err == nil {
		r.calls++
		return false
	}
	r.errors++
	if r.first == nil {
		r.first = err
	}
	return r.errors >= maxErrors
}

func (r *result) noteEvent(late time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.late.add(late)
}

// each runs n workers and waits for them.
func each(n int, work func(i int, r *result)) *result {
	var wg sync.WaitGroup
	r := new(result)
	began := time.Now()
	for i := range n {
		wg.Go(func() { work(i, r) })
	}
	wg.Wait()
	r.took = time.Since(began)
	return r
}

// maxErrors ends a run: a target that fails is not worth hammering.
const maxErrors = 20

// closed keeps conns calls going for d: each worker asks again as soon as it has its answer.
func closed(ctx context.Context, t target, body string, conns int, d time.Duration) *result {
	end := time.Now().Add(d)
	return each(conns, func(_ int, r *result) {
		c := client{addr: t.addr, request: request(t.path, t.key, body)}
		defer c.close()
		for ctx.Err() == nil {
			began := time.Now()
			if began.After(end) {
				return
			}
			if err := c.do(ctx, false); r.note(err, time.Since(began)) {
				return
			}
		}
	})
}

const waiting = 256 // connections of an open loop at most

// open asks rate times a second for d, whatever becomes of the answers. A call's latency counts from the
// time it was due, so that a stall shows on every call it delayed.
func open(ctx context.Context, t target, body string, rate int, d time.Duration) *result {
	due := make(chan time.Time, rate*int(d/time.Second+1))
	go func() {
		defer close(due)
		began := time.Now()
		for i := range int(float64(rate) * d.Seconds()) {
			at := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
			until(at)
			if ctx.Err() != nil {
				return
			}
			due <- at
		}
	}()
	return each(min(waiting, rate), func(_ int, r *result) {
		c := client{addr: t.addr, request: request(t.path, t.key, body)}
		defer c.close()
		for at := range due {
			if err := c.do(ctx, false); r.note(err, time.Since(at)) {
				return
			}
		}
	})
}

// A flow is a number of streams at a pace.
type flow struct {
	streams int
	events  int // that carry text, in each
	pace    time.Duration
}

// prefill is how long the mock thinks before a stream's first event. A bare ReverseProxy cuts streams that
// begin sooner than its transport has seen the end of the request's body: up to one in seven under load.
const prefill = 20 * time.Millisecond

// body asks for one of the flow's streams in words the mock understands through any gateway.
func (f flow) body() string {
	return prompt(fmt.Sprintf("[[mock tokens=%d pace=%s ttft=%s]]", f.events, f.pace, prefill), `"stream":true`)
}

// streams runs the flow's streams at once, begun within a second.
func streams(ctx context.Context, t target, f flow) *result {
	body := f.body()
	began := time.Now()
	return each(f.streams, func(i int, r *result) {
		if sleep(ctx, time.Until(began.Add(time.Second*time.Duration(i)/time.Duration(f.streams)))) != nil {
			return
		}
		c := client{addr: t.addr, request: request(t.path, t.key, body)}
		defer c.close()
		var first time.Time
		c.events.seen = func() {
			if n := c.events.n; n == firstText {
				first = time.Now()
			} else if n > firstText && n < firstText+f.events {
				r.noteEvent(time.Since(first) - time.Duration(n-firstText)*f.pace)
			}
		}
		sent := time.Now()
		err := c.do(ctx, true)
		r.note(err, first.Sub(sent))
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events += c.events.n
	})
}

// firstText is the first event with text: the one before it has the role.
const firstText = 2

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// load is the subcommand.
func load(ctx context.Context, out io.Writer, args []string) error {
	var t target
	var f flow
	var rate, conns int
	var d time.Duration
	var body string
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	fs.StringVar(&t.addr, "addr", "127.0.0.1:8080", "host:port to load")
	fs.StringVar(&t.path, "path", "/v1/chat/completions", "path to post to")
	fs.StringVar(&t.key, "key", "", "API key")
	fs.StringVar(&body, "body", "", "request body; a chat of 1 KB for the mock unless given")
	fs.DurationVar(&d, "for", 5*time.Second, "how long")
	fs.IntVar(&conns, "conns", 16, "connections of the closed loop")
	fs.IntVar(&rate, "rate", 0, "calls a second of an open loop; 0 is a closed loop")
	fs.IntVar(&f.streams, "streams", 0, "streams at once, in place of whole calls")
	fs.DurationVar(&f.pace, "pace", 100*time.Millisecond, "pace of each stream")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := bound(rate, conns, f.streams, d); err != nil {
		return err
	}
	if body == "" {
		body = prompt("", "")
	}
	f.events = int(d / max(f.pace, time.Millisecond))
	var r *result
	switch {
	case f.streams > 0:
		r = streams(ctx, t, f)
	case rate > 0:
		r = open(ctx, t, body, rate, d)
	default:
		r = closed(ctx, t, body, conns, d)
	}
	_, err := fmt.Fprint(out, r)
	return err
}

// bound keeps the load on what one machine can be asked.
func bound(rate, conns, streams int, d time.Duration) error {
	switch {
	case rate < 0 || rate > 20_000:
		return fmt.Errorf("a rate of %d is not between 0 and 20000", rate)
	case conns < 1 || conns > 10_000 || streams < 0 || streams > 10_000:
		return fmt.Errorf("connections and streams are between 1 and 10000")
	case d <= 0 || d > 10*time.Minute:
		return fmt.Errorf("a load lasts up to 10m, not %v", d)
	}
	return nil
}

func (r *result) String() string {
	s := fmt.Sprintf("%d calls and %d errors in %v: %.0f calls/s\n", r.calls, r.errors, r.took.Round(time.Millisecond), float64(r.calls)/r.took.Seconds())
	s += fmt.Sprintf("latency p50 %v p99 %v max %v\n", r.latency.at(.5), r.latency.at(.99), r.latency.most)
	if r.events > 0 {
		s += fmt.Sprintf("%d events: %.0f a second; later than the pace: p50 %v p99 %v\n", r.events, float64(r.events)/r.took.Seconds(), r.late.at(.5), r.late.at(.99))
	}
	if r.first != nil {
		s += fmt.Sprintf("first error: %v\n", r.first)
	}
	return s
}
