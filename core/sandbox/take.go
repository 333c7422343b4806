package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

var errBusy = errors.New("every instance is in use")

// Get waits until a guest is free, at most as long as ctx and Options.Wait last. The caller gives it back with
// Put.
func (p *Pool) Get(ctx context.Context) (*Guest, error) { return p.GetFor(ctx, "") }

// GetFor is Get for a guest that is to work on what belongs to owner. If the pool isolates owners, a guest that
// served another one before is what it was when it had started; one that served this owner last is preferred.
func (p *Pool) GetFor(ctx context.Context, owner string) (*Guest, error) {
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return nil, p.closed()
	}
	if p.free > 0 {
		p.free--
	} else if err := p.wait(ctx); err != nil {
		p.mu.Unlock()
		return nil, err
	}
	g := p.pick(owner)
	p.mu.Unlock()
	if g != nil && (!p.options.Isolate || !g.served || g.owner == owner || p.reset(g)) {
		g.owner, g.served = owner, true
		return g, nil
	}
	g, err := p.make(ctx)
	if err != nil {
		p.mu.Lock()
		p.release()
		p.mu.Unlock()
		return nil, err
	}
	g.owner, g.served = owner, true
	return g, nil
}

// wait queues until a guest is the caller's to take. It is called with the lock, and returns with it.
func (p *Pool) wait(ctx context.Context) error {
	turn := p.enqueue()
	p.mu.Unlock()
	err := p.await(ctx, turn)
	p.mu.Lock()
	if err != nil {
		if at := slices.Index(p.queue, turn); at >= 0 {
			p.queue = slices.Delete(p.queue, at, at+1)
		} else {
			<-turn
			p.release() // it came too late
		}
	}
	p.spare = append(p.spare, turn)
	return err
}

func (p *Pool) enqueue() chan struct{} {
	var turn chan struct{}
	if n := len(p.spare); n > 0 {
		turn, p.spare = p.spare[n-1], p.spare[:n-1]
	} else {
		turn = make(chan struct{}, 1)
	}
	p.queue = append(p.queue, turn)
	return turn
}

func (p *Pool) await(ctx context.Context, turn chan struct{}) error {
	var late <-chan time.Time
	if p.options.Wait > 0 {
		timer := time.NewTimer(p.options.Wait)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-turn:
		return nil
	case <-p.done:
		return p.closed()
	case <-late:
		return p.gaveUp(Busy, fmt.Errorf("%w: none became free within %v", errBusy, p.options.Wait))
	case <-ctx.Done():
		return p.gaveUp(Canceled, fmt.Errorf("no instance became free: %w", context.Cause(ctx)))
	}
}

func (p *Pool) gaveUp(k Kind, err error) error {
	p.faults[k].Add(1)
	return &Fault{Kind: k, Func: p.name, Err: err}
}

func (p *Pool) closed() error { return &Fault{Kind: Closed, Func: p.name, Err: ErrClosed} }

// pick takes an idle guest, or nil: the last that served the owner, one that need not be put back, or the one
// that has been idle longest.
func (p *Pool) pick(owner string) *Guest {
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	at := n - 1
	if p.options.Isolate {
		at = p.best(owner)
	}
	g := p.idle[at]
	copy(p.idle[at:], p.idle[at+1:])
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	g.out = true
	return g
}

func (p *Pool) best(owner string) int {
	clean := 0
	for i, g := range slices.Backward(p.idle) {
		if g.owner == owner && g.served {
			return i
		}
		if !g.served {
			clean = i
		}
	}
	return clean
}

// reset puts a guest back to its start for another owner, or discards it and returns false.
func (p *Pool) reset(g *Guest) bool {
	done := g.reset()
	if !done {
		p.discard(g)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if done {
		p.resets++
	} else {
		p.recycled++
	}
	return done
}

// Put gives a guest back. One that is broken, or whose memory has grown to where it would soon be refused
// more, is closed instead, and the next Get makes a new one. A second Put of the same guest does nothing.
func (p *Pool) Put(g *Guest) {
	if g == nil || !g.out {
		return
	}
	g.out = false
	g.Data = nil
	p.mu.Lock()
	p.settle(g)
	if g.broken == "" && !p.outgrown(g) {
		p.idle = append(p.idle, g)
	} else {
		p.mu.Unlock()
		p.discard(g)
		p.mu.Lock()
	}
	p.release()
	p.mu.Unlock()
}

// release lets whoever waits longest take a guest. The caller holds the lock.
func (p *Pool) release() {
	if len(p.queue) > 0 {
		p.queue[0] <- struct{}{}
		p.queue = slices.Delete(p.queue, 0, 1)
		return
	}
	p.free++
	if p.closing && p.free == p.options.Instances {
		close(p.drained)
	}
}

// outgrown reports whether less than a quarter is left between the memory that the guest began with and its
// limit: a guest that leaks is replaced before it fails. The caller holds the lock.
func (p *Pool) outgrown(g *Guest) bool {
	limit := p.options.Limits.Memory
	now := g.MemorySize() / pageSize
	if now <= g.pages || limit <= g.pages || now-g.pages < (limit-g.pages)/4*3 {
		return false
	}
	p.recycled++
	return true
}

// discard closes a guest, whose memory is gone with it.
func (p *Pool) discard(g *Guest) {
	_ = g.module.Close(context.Background())
	g.memory = nil
	g.Break("discarded")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alive--
	p.pages -= g.counted
}

// Close refuses further Gets, waits for the guests that are out, and closes everything. It may be called
// twice.
func (p *Pool) Close() error {
	var err error
	p.once.Do(func() {
		p.drain()
		p.mu.Lock() // Stats may still be asked for
		idle := p.idle
		p.idle = nil
		p.mu.Unlock()
		for _, g := range idle {
			p.discard(g)
		}
		if p.compiled != nil {
			err = p.compiled.Close(context.Background())
		}
		if p.runtime != nil {
			err = errors.Join(err, p.runtime.Close(context.Background()))
		}
		p.image.close()
	})
	return err
}

func (p *Pool) drain() {
	p.mu.Lock()
	p.closing = true
	close(p.done)
	if p.free == p.options.Instances {
		close(p.drained)
	}
	p.mu.Unlock()
	<-p.drained
}
