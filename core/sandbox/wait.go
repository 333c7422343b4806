package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

var errBusy = errors.New("every instance is in use")

// A waiter is one who found every guest in use. As with sync.Mutex, a guest that becomes free belongs to nobody: the
// first in the queue is woken to take it, but whoever is running may come first and saves a change of goroutines.
// A waiter that finds, once a processor is its own again, that it was woken in vain and has waited for patience is
// given the next guest, and nobody can come first then.
type waiter struct {
	turn  chan struct{}
	since time.Duration
	timer *time.Timer

	// The pool's lock guards what follows.
	woken bool // to look for a free guest
	given bool // a guest is its own, and it is out of the queue
	owed  bool // the next guest
}

const patience = time.Millisecond

// wait queues until a guest is the caller's to take. It is called with the lock, and returns with it.
func (p *Pool) wait(ctx context.Context) error {
	w := p.enqueue()
	defer p.retire(w)
	for {
		p.mu.Unlock()
		err := p.await(ctx, w)
		p.mu.Lock()
		if done, err := p.look(w, err); done {
			return err
		}
	}
}

// look is what a waiter does when it has woken up, or when its wait has ended with err.
func (p *Pool) look(w *waiter, err error) (bool, error) {
	if w.woken {
		w.woken, p.waking = false, false
	}
	if err == nil && p.closing && !w.given {
		err = p.closed()
	}
	switch {
	case w.given && err == nil:
	case w.given:
		p.release() // it came too late
	case err != nil:
		p.leaves(w)
	case p.free > 0:
		p.free--
		p.leaves(w)
	default:
		w.owed = now()-w.since >= patience
		return false, nil
	}
	return true, err
}

func (p *Pool) enqueue() *waiter {
	var w *waiter
	if n := len(p.spare); n > 0 {
		w, p.spare = p.spare[n-1], p.spare[:n-1]
	} else {
		w = &waiter{turn: make(chan struct{}, 1)}
	}
	w.since = now()
	p.queue = append(p.queue, w)
	return w
}

// leaves takes a waiter out of the queue. If there is a guest for the next one, that one is told.
func (p *Pool) leaves(w *waiter) {
	at := slices.Index(p.queue, w)
	p.queue = slices.Delete(p.queue, at, at+1)
	p.wake()
}

// retire keeps a waiter that is out of the queue for the next who has to wait.
func (p *Pool) retire(w *waiter) {
	select {
	case <-w.turn:
	default:
	}
	w.given, w.owed = false, false
	p.spare = append(p.spare, w)
}

func (p *Pool) await(ctx context.Context, w *waiter) error {
	late := w.late(p.options.Wait)
	defer w.stop()
	select {
	case <-w.turn:
		return nil
	case <-p.done:
		return p.closed()
	case <-late:
		return p.gaveUp(Busy, fmt.Errorf("%w: none became free within %v", errBusy, p.options.Wait))
	case <-ctx.Done():
		return p.gaveUp(Canceled, fmt.Errorf("no instance became free: %w", context.Cause(ctx)))
	}
}

// late is told when the waiter has waited for longer than most, if that is bounded.
func (w *waiter) late(most time.Duration) <-chan time.Time {
	if most <= 0 {
		return nil
	}
	left := w.since + most - now()
	if w.timer == nil {
		w.timer = time.NewTimer(left)
	} else {
		w.timer.Reset(left)
	}
	return w.timer.C
}

func (w *waiter) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// release makes a guest free: for the first in the queue, if that one is owed it, or for whoever comes first. The
// caller holds the lock.
func (p *Pool) release() {
	if len(p.queue) > 0 && p.queue[0].owed {
		w := p.queue[0]
		p.queue = slices.Delete(p.queue, 0, 1)
		w.given = true
		w.tell()
		return
	}
	p.free++
	p.wake()
	if p.closing && p.free == p.options.Instances {
		close(p.drained)
	}
}

// wake tells the first in the queue to look for a free guest, unless somebody is on the way to do that.
func (p *Pool) wake() {
	if p.free > 0 && !p.waking && len(p.queue) > 0 {
		p.waking, p.queue[0].woken = true, true
		p.queue[0].tell()
	}
}

func (w *waiter) tell() {
	select {
	case w.turn <- struct{}{}:
	default: // it was told before, and has not looked yet
	}
}

func (p *Pool) gaveUp(k Kind, err error) error {
	p.faults[k].Add(1)
	return &Fault{Kind: k, Func: p.name, Err: err}
}

func (p *Pool) closed() error { return &Fault{Kind: Closed, Func: p.name, Err: ErrClosed} }
