package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

func roleOf(n uint8) llm.Role       { return llm.Role(n) }
func channelOf(n uint8) llm.Channel { return llm.Channel(n) }

// stateless: an instance that has been asked everything answers as a fresh one does, in any order.
func stateless(ctx context.Context, s *subject) (string, error) {
	if s.fickle() && !s.trial.Sees("on_text") {
		return "", skip("it asks for counters, the time or chance")
	}
	used, err := s.everything(ctx, false)
	if err != nil {
		return "", err
	}
	for _, backwards := range []bool{true, false} {
		if err := s.trial.Renew(ctx); err != nil {
			return "", fmt.Errorf("a second instance: %w", err)
		}
		fresh, err := s.everything(ctx, backwards)
		if err != nil {
			return "", err
		}
		for name, was := range used {
			if got := fresh[name].answer; got != was.answer {
				return "", breaks(was.again+", first and after other questions", "%s: a fresh instance answers %s, one that was asked before %s", name, got, was.answer)
			}
		}
	}
	return fmt.Sprintf("%d questions", len(used)), nil
}

// A told is an answer in words, and what was asked.
type told struct{ answer, again string }

// everything asks every text of every sort, and every hook.
func (s *subject) everything(ctx context.Context, backwards bool) (map[string]told, error) {
	all := map[string]told{}
	for _, q := range ordinary() {
		if !s.trial.Sees(q.hook) {
			continue
		}
		answer, err := s.calm(ctx, q)
		if err != nil {
			return nil, breaks(asked(q), "%s: %w", q.hook, err)
		}
		all[q.hook] = told{answer, asked(q)}
	}
	if !s.trial.Sees("on_text") {
		return all, nil
	}
	texts := slices.Clone(s.texts)
	if backwards {
		slices.Reverse(texts)
	}
	for _, k := range kinds() {
		for _, text := range texts {
			got, err := put(ctx, s.trial, k, text)
			if err != nil {
				return nil, breaks(again(k, "", text), "%s: %w", k.name, err)
			}
			all[k.name+" "+quote(firstOf(text, 60))] = told{got.String(), again(k, "", text)}
		}
	}
	return all, nil
}

// maxSlope is how many times dearer a KiB of a large text may be than one of a small text: reading a text again for
// every byte of it would be thirty-two times.
const maxSlope = 4

// fuel: a text thirty-two times as long costs thirty-two times the fuel, not more.
func fuel(ctx context.Context, s *subject) (string, error) {
	if !s.trial.Sees("on_text") {
		return "", skip("it does not subscribe to on_text")
	}
	const small, large = 1 << 10, abi.MaxPiece
	ofSmall, ofLarge := slow(small), slow(large)
	worst, detail := 0.0, ""
	for _, k := range kinds()[:2] {
		for _, name := range slices.Sorted(maps.Keys(ofSmall)) {
			a, err := s.burns(ctx, k, ofSmall[name])
			if err != nil {
				return "", err
			}
			b, err := s.burns(ctx, k, ofLarge[name])
			if err != nil {
				return "", err
			}
			if perKB := float64(b) / (large >> 10); perKB > worst {
				worst, detail = perKB, fmt.Sprintf("at most %.0f units a KiB, for %s in %s", perKB, name, k.name)
			}
			if float64(b) > float64(a)*(large/small)*maxSlope {
				return "", breaks(begins(ofLarge[name]), "%s: %d bytes of %s cost %d units, but %d bytes %d: the plugin reads a text more than once", k.name, small, name, a, large, b)
			}
		}
	}
	return detail, nil
}

// burns is the fuel that one text costs.
func (s *subject) burns(ctx context.Context, k kind, text string) (int64, error) {
	before := s.trial.Stats().Fuel
	_, err := put(ctx, s.trial, k, text)
	return s.trial.Stats().Fuel - before, err
}

// How long a guest may go on growing: one with a collector fills some memory before it collects.
const (
	roundOfCalls = 10_000
	growthRounds = 30
	briefRounds  = 3
)

// leaks: ten thousand calls leave the memory as they found it, once the guest has what it works with.
func leaks(ctx context.Context, s *subject) (string, error) {
	if !s.options.Brief {
		return s.grows(ctx, growthRounds)
	}
	detail, err := s.grows(ctx, briefRounds)
	if errors.As(err, new(growing)) {
		return "", skip(fmt.Sprintf("undecided: %v, which may be a collector's way", err))
	}
	return detail, err
}

// A growing is what a guest that did not stop growing has in use.
type growing struct{ first, last, calls int64 }

func (g growing) Error() string {
	return fmt.Sprintf("%d KiB are in use, and more after every %d of %d calls, %d KiB in the end: keep nothing between calls", g.first>>10, roundOfCalls, g.calls, g.last>>10)
}

// grows asks in rounds until one leaves the memory as it found it.
func (s *subject) grows(ctx context.Context, rounds int) (string, error) {
	if err := s.calls(ctx, roundOfCalls/10); err != nil {
		return "", err
	}
	first, err := s.trial.Used(ctx, newCall())
	if err != nil {
		return "", err
	}
	most := first
	for n := roundOfCalls; n <= rounds*roundOfCalls; n += roundOfCalls {
		before := s.trial.Stats().Recycled
		if err := s.calls(ctx, roundOfCalls); err != nil {
			return "", err
		}
		if replaced := s.trial.Stats().Recycled - before; replaced > 0 {
			return "", fmt.Errorf("in %d calls %d instances had to be replaced because they had outgrown their memory: keep nothing between calls", roundOfCalls, replaced)
		}
		now, err := s.trial.Used(ctx, newCall())
		if err != nil {
			return "", err
		}
		if now <= most {
			return fmt.Sprintf("%d KiB in use, and %d KiB after %d calls", first>>10, now>>10, n), nil
		}
		most = now
	}
	return "", growing{first, most, int64(rounds * roundOfCalls)}
}

// calls asks everything that a call asks, n times.
func (s *subject) calls(ctx context.Context, n int) error {
	for i := range n {
		if err := s.call(ctx); err != nil {
			return fmt.Errorf("call %d: %w", i, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (s *subject) call(ctx context.Context) error {
	if s.trial.Sees("on_text") {
		for _, k := range kinds()[:2] {
			if _, err := put(ctx, s.trial, k, s.texts[6]); err != nil {
				return err
			}
		}
	}
	for _, q := range ordinary() {
		if !s.trial.Sees(q.hook) {
			continue
		}
		if _, err := q.ask(ctx, s.trial); err != nil {
			return err
		}
	}
	return nil
}
