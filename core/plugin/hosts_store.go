package plugin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"time"
)

// Counters are the numbers that plugins keep, shared by all replicas where the store is. They are safe for concurrent
// use, and answer within a bounded time or with an error.
type Counters interface {
	// Get returns the counter at key, 0 when there is none.
	Get(ctx context.Context, key string) (int64, error)
	// IncrIf adds amount to the counter at key, which does not fall below 0, and returns the new count; ok is false, and
	// nothing added, when an amount that is not negative would take it beyond limit. A counter lives for ttl from when it
	// was made.
	IncrIf(ctx context.Context, key string, amount, limit int64, ttl time.Duration) (n int64, ok bool, err error)
}

// Bounds of counters. The store may count in doubles.
const (
	maxCount   = 1 << 50
	minCounter = time.Second
	maxCounter = 366 * 24 * time.Hour
)

var errNoStore = errors.New("this gateway keeps no counters")

// counter reads which counter is meant. Counters are the plugin's own: no name of a plugin holds the byte between it and
// the key.
func (p *plugin) counter(h host) (string, error) {
	if _, err := h.turn(); err != nil {
		return "", err
	}
	key, err := h.bytes("key", 0, maxKey)
	switch {
	case err != nil:
		return "", err
	case len(key) == 0:
		return "", errors.New("the key is empty")
	case p.counters == nil:
		return "", errNoStore
	}
	h.g.Charge(storeCost)
	return p.name + "\x00" + string(key), nil
}

func (p *plugin) kvGet(h host) (uint64, error) {
	key, err := p.counter(h)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(h.g.Context(), h.g.Remaining())
	defer cancel()
	n, err := p.counters.Get(ctx, key)
	return uint64(n), err
}

func (p *plugin) kvIncrIf(h host) (uint64, error) {
	amount, limit, ms := int64(h.args[2]), int64(h.args[3]), int64(h.args[4])
	switch {
	case amount < -maxCount || amount > maxCount:
		return 0, fmt.Errorf("the amount %d is out of range: the most is %d", amount, int64(maxCount))
	case limit < 0 || limit > maxCount:
		return 0, fmt.Errorf("the limit %d is out of range: it is 0 to %d", limit, int64(maxCount))
	case ms < minCounter.Milliseconds() || ms > maxCounter.Milliseconds():
		return 0, fmt.Errorf("a life of %d ms is out of range: it is %v to %v", ms, minCounter, maxCounter)
	}
	key, err := p.counter(h)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(h.g.Context(), h.g.Remaining())
	defer cancel()
	n, ok, err := p.counters.IncrIf(ctx, key, amount, limit, time.Duration(ms)*time.Millisecond)
	if err == nil && !ok {
		n = -1
	}
	return uint64(n), err
}

func (p *plugin) addMetric(h host) (uint64, error) {
	name, err := h.bytes("name", 0, maxLabelName)
	if err != nil {
		return 0, err
	}
	amount := math.Float64frombits(h.args[2])
	counter := p.own[string(name)]
	switch {
	case counter == nil:
		return 0, fmt.Errorf("the manifest's metrics name no %q", printable(name))
	case amount < 0 || math.IsNaN(amount) || math.IsInf(amount, 0):
		return 0, fmt.Errorf("a counter grows by 0 or more, not by %v", amount)
	}
	counter.Add(amount)
	return 0, nil
}

func (p *plugin) nowMS(host) (uint64, error) { return uint64(time.Now().UnixMilli()), nil }

// maxRandom bounds what one call of random fills.
const maxRandom = 4 << 10 // bytes

func (p *plugin) random(h host) (uint64, error) {
	b, err := h.bytes("place to fill", 0, maxRandom)
	if err != nil {
		return 0, err
	}
	_, err = rand.Read(b)
	return 0, err
}
