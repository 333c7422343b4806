package plugin

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// An ending tells plugins how a call ended: once, when its reply is closed, or when there will be none.
type ending struct {
	ctx     context.Context // of the call
	call    *pipeline.Call
	plugins []*plugin
	last    *last
	inner   llm.Stream
	status  int

	mu    sync.Mutex // guards what follows: Close may come from elsewhere
	first int64      // milliseconds until the first byte, and one more; 0: none came
	err   error      // what Next ended with
	told  bool
}

// Next returns the next chunk and notes the first byte and the end.
func (e *ending) Next() (llm.Chunk, error) {
	c, err := e.inner.Next()
	if err == nil && (e.first > 0 || len(c.Raw) == 0) { // only Next writes first
		return c, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.err = err
		return c, err
	}
	e.first = 1 + millis(e.call.Start)
	return c, nil
}

// Close closes the reply, and leaves the telling to others: nobody waits for it.
func (e *ending) Close() error {
	err := e.inner.Close()
	e.tell()
	return err
}

// failed tells of a call that gets no reply.
func (e *ending) failed(err error) {
	e.err = err
	e.tell()
}

func (e *ending) tell() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.told {
		return
	}
	e.told = true
	c := keepCall(e.call)
	meta := e.appendEnd(nil)
	e.last.do(func() {
		t := turn{call: c, reply: true}
		for _, p := range e.plugins {
			e.tellOne(p, &t, meta)
		}
	})
}

// tellOne tells one plugin. Nobody waits for this: a plugin whose instances are all busy can.
func (e *ending) tellOne(p *plugin, t *turn, meta []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), e.last.most)
	defer cancel()
	err := p.tellEnd(ctx, t, meta)
	for isBusy(err) && ctx.Err() == nil {
		err = p.tellEnd(ctx, t, meta)
	}
	if err != nil {
		p.lost(ctx, err)
	}
}

// keepCall is what is known of a call now. It is not ours any longer once its reply is closed, while plugins may yet
// label it.
func keepCall(c *pipeline.Call) *pipeline.Call {
	kept := *c
	kept.Labels = maps.Clone(c.Labels)
	return &kept
}

// maxEnd bounds how long an instance of each plugin is waited for when a call has ended.
const maxEnd = 10 * time.Second

func (p *plugin) tellEnd(ctx context.Context, t *turn, meta []byte) (err error) {
	g, err := p.enter(ctx, t)
	if err != nil {
		return err
	}
	err = errPanicked
	defer func() { p.leave(g, err) }()
	_, err = p.tellGuest(ctx, g, p.onEnd, meta)
	p.wipe(g, p.buffers.in, uint32(len(meta)))
	return err
}

// lost counts and logs a failure that nothing comes of.
func (p *plugin) lost(ctx context.Context, err error) {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = &failure{sandbox.Canceled.String(), err}
	}
	p.meter.fault(f.cause)
	p.warn(ctx, f)
}

func (e *ending) appendEnd(dst []byte) []byte {
	le := binary.LittleEndian
	c := e.call
	status, why := e.outcome()
	var flags uint32
	if c.Request.Stream {
		flags |= abi.HeadStream
	}
	if why == "" {
		flags |= abi.EndComplete
	}
	first := uint64(math.MaxUint64)
	if e.first > 0 {
		first = uint64(e.first - 1)
	}
	dst = le.AppendUint32(dst, abi.EndLength)
	dst = le.AppendUint32(dst, flags)
	dst = le.AppendUint32(dst, uint32(status))
	dst = le.AppendUint32(dst, 0)
	dst = appendTokens(dst, c.Outcome.Usage)
	dst = le.AppendUint64(dst, uint64(millis(c.Start)))
	dst = le.AppendUint64(dst, first)
	dst = appendFacts(dst, c)
	if c.Outcome.Backend != "" {
		dst = appendRecord(dst, abi.InBackend, "", c.Outcome.Backend)
	}
	if why != "" {
		dst = appendRecord(dst, abi.InError, "", why)
	}
	return dst
}

// outcome is the status that the caller got, and why the call ended as it did; "" if it ended well.
func (e *ending) outcome() (status int, why string) {
	status = e.status
	if e.first == 0 && e.err != nil && e.err != io.EOF {
		status = pipeline.Status(e.err)
	}
	var no *pipeline.Refusal
	switch {
	case errors.As(e.err, &no):
		return status, no.Code
	case e.err == io.EOF && e.status < http.StatusBadRequest:
		return status, ""
	case e.err == io.EOF:
		return status, "error"
	case e.err == nil && e.first == 0:
		return pipeline.ClientGone, "client_gone"
	case e.err == nil || e.ctx.Err() != nil || errors.Is(e.err, context.Canceled):
		return status, "client_gone"
	}
	return status, "error"
}

// millis is how many milliseconds have passed since start; of a time that is not known, none.
func millis(start time.Time) int64 {
	if start.IsZero() {
		return 0
	}
	return max(0, time.Since(start).Milliseconds())
}

// A last is where calls that have ended are told of, beside those that go on. When too many wait, the call itself does.
type last struct {
	most    time.Duration // maxEnd
	slots   chan struct{}
	running sync.WaitGroup
}

// maxEnding is how many calls that have ended may wait to be told of.
const maxEnding = 1024

func (l *last) init() { l.most, l.slots = maxEnd, make(chan struct{}, maxEnding) }

func (l *last) do(f func()) {
	select {
	case l.slots <- struct{}{}:
	default:
		f()
		return
	}
	l.running.Go(func() {
		defer func() { <-l.slots }()
		f()
	})
}

// wait returns when all have been told.
func (l *last) wait() { l.running.Wait() }
