package sandbox

import (
	"context"
	"errors"
	"slices"
)

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
