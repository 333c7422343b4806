package conformance

import (
	"context"
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

// leaks: after ten thousand calls the memory is what it was after a few, or the gateway had to replace the instance, which
// is reported.
func leaks(ctx context.Context, s *subject) (string, error) {
	calls := 10_000
	if s.options.Brief {
		calls /= 10
	}
	k := kinds()[1]
	q := ordinary()[0]
	one := func() error {
		if s.trial.Sees("on_text") {
			_, err := put(ctx, s.trial, k, s.texts[6])
			return err
		}
		if s.trial.Sees(q.hook) {
			_, err := q.ask(ctx, s.trial)
			return err
		}
		return nil
	}
	if !s.trial.Sees("on_text") && !s.trial.Sees(q.hook) {
		return "", skip("it subscribes to neither on_text nor on_request")
	}
	for range calls / 10 {
		if err := one(); err != nil {
			return "", err
		}
	}
	before := s.trial.Stats()
	for i := range calls {
		if err := one(); err != nil {
			return "", fmt.Errorf("call %d: %w", i, err)
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
	}
	after := s.trial.Stats()
	detail := fmt.Sprintf("%d KiB, and %d KiB after %d calls", before.Memory>>10, after.Memory>>10, calls)
	if n := after.Recycled - before.Recycled; n > 0 {
		detail += fmt.Sprintf("; %d instances were replaced because they had outgrown their memory", n)
	}
	return detail, nil
}
