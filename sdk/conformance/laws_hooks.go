package conformance

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// answers: what a hook says of the ordinary, the empty and the largest is something that the gateway can believe.
func answers(ctx context.Context, s *subject) (string, error) {
	n := 0
	for _, q := range ordinary() {
		if !s.trial.Sees(q.hook) {
			continue
		}
		empty := q
		empty.records, empty.head = nil, make([]byte, len(q.head))
		for name, one := range map[string]question{"an ordinary": q, "an empty": empty, "the largest": q.filled(s.trial.InCap())} {
			n++
			if err := s.believes(ctx, one); err != nil {
				return "", breaks(asked(one), "%s, %s question: %w", q.hook, name, err)
			}
		}
	}
	if !s.trial.Sees("on_text") {
		return fmt.Sprintf("%d questions", n), nil
	}
	for _, k := range kinds() {
		for name, text := range slow(abi.MaxPiece) {
			n++
			if _, err := put(ctx, s.trial, k, text); err != nil {
				return "", breaks(begins(text), "%s, %d bytes of %s: %w", k.name, len(text), name, err)
			}
		}
	}
	return fmt.Sprintf("%d questions", n), ctx.Err()
}

// begins tells which long text was asked about.
func begins(text string) string {
	return fmt.Sprintf("a text of %d bytes that goes on as it begins: %s", len(text), quote(firstOf(text, 120)))
}

// asked is a question in bytes, for those who want to ask it again.
func asked(q question) string {
	b := q.bytes()
	if len(b) > 600 {
		return fmt.Sprintf("%s with %d bytes, the first of them %x", q.hook, len(b), b[:200])
	}
	return fmt.Sprintf("%s with %x", q.hook, b)
}

// believes asks and checks that the answer means something.
func (s *subject) believes(ctx context.Context, q question) error {
	a, err := q.ask(ctx, s.trial)
	if err != nil || q.hook == "on_end" {
		return err
	}
	w := a.Word
	if w.Error() != 0 {
		return fmt.Errorf("it fails: %s", a.Out)
	}
	if w.Edits() != 0 || !slices.Contains(verdicts[q.hook], w.Verdict()) {
		return fmt.Errorf("the result %#x means nothing", uint64(w))
	}
	if int(w.Hold()) > len(a.Out) {
		return fmt.Errorf("%d bytes of records, which the out buffer does not hold", w.Hold())
	}
	all, ok := recordsOf(a.Out)
	if !ok {
		return fmt.Errorf("its records are cut off")
	}
	for _, r := range all {
		if err := r.fits(q.hook, w.Verdict()); err != nil {
			return err
		}
		if c := needs[r.id]; c != "" && !slices.Contains(s.m.Capabilities, c) {
			return fmt.Errorf("record %d needs the capability %q, which its manifest does not ask for", r.id, c)
		}
	}
	if w.Verdict() == abi.Answer && !slices.Contains(s.m.Capabilities, "answer") {
		return fmt.Errorf(`it answers, and its manifest does not ask for the capability "answer"`)
	}
	return nil
}

// needs are the capabilities that records are behind.
var needs = map[uint16]string{
	abi.OutHeader: "headers", abi.OutDropHeader: "headers", abi.OutRequestHeader: "headers", abi.OutModel: "model", abi.OutPool: "pool", abi.OutSystem: "system",
}

var verdicts = map[string][]abi.Verdict{
	"on_request":   {abi.Pass, abi.Refuse, abi.Answer},
	"on_tool_call": {abi.Pass, abi.Refuse, abi.Drop},
	"on_usage":     {abi.Pass, abi.Refuse},
}

// fits says what is wrong with a record in its place.
func (r record) fits(hook string, v abi.Verdict) error {
	refusal := r.id >= abi.OutStatus && r.id <= abi.OutMessage || r.id == abi.OutRetry
	switch {
	case r.id == 0 || r.id > abi.OutRetry:
		return fmt.Errorf("record %d is none of this contract", r.id)
	case refusal && v != abi.Refuse:
		return fmt.Errorf("record %d belongs to a refusal", r.id)
	case refusal:
	case r.id == abi.OutText && v != abi.Answer && v != abi.Drop, r.id == abi.OutArguments && hook != "on_tool_call":
		return fmt.Errorf("record %d has no place in an answer of %s with the verdict %d", r.id, hook, v)
	case hook == "on_usage", hook == "on_tool_call" && r.id != abi.OutArguments && r.id != abi.OutText:
		return fmt.Errorf("record %d has no place in an answer of %s", r.id, hook)
	}
	if r.id == abi.OutArguments && !json.Valid([]byte(r.value)) {
		return fmt.Errorf("the arguments %q are not JSON", r.value)
	}
	if !utf8.ValidString(r.value) || !utf8.ValidString(r.name) {
		return fmt.Errorf("record %d is not UTF-8", r.id)
	}
	return nil
}

// greased: longer heads, unknown flags and unknown records change no answer; roles and channels that have no name yet
// stop nothing.
func greased(ctx context.Context, s *subject) (string, error) {
	n := 0
	for _, q := range ordinary() {
		if !s.trial.Sees(q.hook) {
			continue
		}
		want, err := s.calm(ctx, q)
		if err != nil {
			return "", breaks(asked(q), "%s: %w", q.hook, err)
		}
		all := q.greased()
		for _, name := range slices.Sorted(maps.Keys(all)) {
			n++
			got, err := s.calm(ctx, all[name])
			if err != nil || got != want {
				return "", breaks(asked(all[name]), "%s with %s answers %s (%v), but without %s", q.hook, name, got, err, want)
			}
		}
	}
	if !s.trial.Sees("on_text") {
		return fmt.Sprintf("%d questions", n), nil
	}
	for _, role := range []uint8{6, 15} {
		for _, channel := range []uint8{7, 100, 255} {
			k := kind{name: fmt.Sprintf("a text of role %d and channel %d", role, channel)}
			k.Role, k.Channel = roleOf(role), channelOf(channel)
			n++
			if _, err := put(ctx, s.trial, k, "no secret"); err != nil {
				return "", fmt.Errorf("%s: %w", k.name, err)
			}
		}
	}
	return fmt.Sprintf("%d questions", n), nil
}

// calm is a hook's answer in words, less what differs from one time to the next.
func (s *subject) calm(ctx context.Context, q question) (string, error) {
	a, err := q.ask(ctx, s.trial)
	if err != nil {
		return "", err
	}
	if q.hook == "on_end" {
		return "nothing", nil
	}
	if s.fickle() {
		return fmt.Sprintf("verdict %d, error %d", a.Word.Verdict(), a.Word.Error()), nil
	}
	all, _ := recordsOf(a.Out)
	return fmt.Sprintf("%#x %v", uint64(a.Word), all), nil
}

// fickle reports whether the plugin may look at what is never the same twice.
func (s *subject) fickle() bool {
	return slices.ContainsFunc(s.m.Capabilities, func(c string) bool {
		return slices.Contains([]string{abi.NowMS, abi.Random, abi.KVGet, abi.KVIncrIf, abi.HTTPCall}, c)
	})
}

// deterministic: asked twice, the plugin says the same twice, byte for byte.
func deterministic(ctx context.Context, s *subject) (string, error) {
	for _, q := range ordinary() {
		if !s.trial.Sees(q.hook) {
			continue
		}
		first, err := s.calm(ctx, q)
		if err != nil {
			return "", breaks(asked(q), "%s: %w", q.hook, err)
		}
		if second, err := s.calm(ctx, q); err != nil || first != second {
			return "", breaks(asked(q), "%s answers %s, and the next time %s (%v)", q.hook, first, second, err)
		}
	}
	if !s.trial.Sees("on_text") {
		return "", nil
	}
	for _, k := range kinds()[:2] {
		for _, text := range s.texts {
			if err := s.alike(ctx, k, firstOf(text, min(s.trial.InCap(), abi.MaxPiece))); err != nil {
				return "", err
			}
		}
	}
	return "", nil
}

func (s *subject) alike(ctx context.Context, k kind, text string) error {
	first, err := s.word(ctx, k, text, 0)
	if err != nil {
		return breaks(again(k, "", text), "%s: %w", k.name, err)
	}
	second, err := s.word(ctx, k, text, 0)
	if err != nil || first.Word != second.Word || !bytes.Equal(first.Edits, second.Edits) || replaced(first) != replaced(second) {
		return breaks(again(k, "", text), "%s answers %#x, and the next time %#x (%v)", k.name, uint64(first.Word), uint64(second.Word), err)
	}
	return nil
}

// replaced is what the edits of an answer put in.
func replaced(a plugin.RawAnswer) string {
	var b strings.Builder
	for e := a.Edits; len(e) >= abi.EditSize; e = e[abi.EditSize:] {
		from, n := binary.LittleEndian.Uint32(e[abi.EditOffset:]), binary.LittleEndian.Uint32(e[abi.EditLength:])
		if n != abi.ReportOnly && uint64(from)+uint64(n) <= uint64(len(a.Out)) {
			b.Write(a.Out[from : from+n])
		}
	}
	return b.String()
}
