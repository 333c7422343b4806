package plugin

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// order makes a request that tells the hostile guest what to do when it is asked about the request.
func order(what string) string {
	return `{"model":` + quote("!!"+what+"!!") + `,"messages":[{"role":"user","content":"x"}]}`
}

// result is an order to return r, with edits and an out buffer.
func result(r uint64, edits, out string) string {
	b := []byte{'R'}
	for i := range 8 {
		b = append(b, byte(r>>(8*i)))
	}
	return string(append(b, byte(len(edits)/4))) + edits + out
}

func le(words ...uint32) string {
	var b []byte
	for _, w := range words {
		b = append(b, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
	}
	return string(b)
}

func record(id uint16, name, value string) string {
	return string(appendRecord(nil, id, name, value))
}

// TestHostile asks a guest that breaks every promise. What it says is refused, the call ends by the failure
// rule, and the next call is answered by another instance.
func TestHostile(t *testing.T) {
	const refuse, failed = 1 << 32, 1 << 40
	tests := []struct {
		name, order, cause string
	}{
		{"endless loop", "L", "deadline"},
		{"trap", "T", "trap"},
		{"deep recursion", "D", ""},
		{"out of memory", "M", ""},
		{"holds what is final", "H", "bad_hold"},
		{"holds more than there is", result(1<<31, "", ""), "bad_hold"},
		{"holds a negative length", result(0xffffffff, "", ""), "bad_hold"},
		{"unknown verdict", result(9<<32, "", ""), "bad_result"},
		{"says it failed", result(failed|3, "", "why"), "declared"},
		{"says it failed, at length", result(failed|0xffffffff, "", "why"), "declared"},
		{"more edits than fit", result(0xffff<<48, "", ""), "bad_edit"},
		{"edit beyond the end", result(1<<48, le(0, 999, 0, 0, 0), ""), "bad_edit"},
		{"edit backwards", result(1<<48, le(3, 2, 0, 0, 0), ""), "bad_edit"},
		{"edits out of order", result(2<<48, le(3, 4, 0, 0, 0, 0, 1, 0, 0, 0), ""), "bad_edit"},
		{"edit within a character", result(1<<48, le(30, 31, 0, 0, 0), "가나다"), "bad_edit"},
		{"hold within a character", result(1, "", "가나다"), "bad_hold"},
		{"replacement outside the buffer", result(1<<48, le(0, 1, 4000, 4000, 0), ""), "bad_edit"},
		{"replacement of 1 GiB", result(1<<48, le(0, 1, 0, 1<<30, 0), ""), "bad_edit"},
		{"replacement at the end of memory", result(1<<48, le(0, 1, 0xffffffff, 0xfffffffe, 0), ""), "bad_edit"},
		{"replacement is no text", result(1<<48, le(0, 1, 0, 2, 0), "\xff\xfe"), "bad_edit"},
		{"unknown kind", result(1<<48, le(0, 1, 0, 0, 77), ""), "bad_edit"},
		{"refuses with records that run over", result(refuse|100, "", le(5, 0xffffffff)), "bad_record"},
		{"refuses with half a record", result(refuse|3, "", "abc"), "bad_record"},
		{"refuses beyond its buffer", result(refuse|0xffffffff, "", ""), "bad_record"},
		{"refuses with status 200", result(refuse|11, "", record(4, "", "200")), "bad_record"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := stage(t, Entry{Name: "hostile"})
			err := s.inward[0].run(context.Background(), &window{}, []byte(tt.order), abi.FlagFinal, &pass{turn: &turn{}})
			var f *failure
			if !errors.As(err, &f) || tt.cause != "" && f.cause != tt.cause {
				t.Fatalf("got %v, want a failure of cause %q", err, tt.cause)
			}
			_, _, err = handle(t, s, llm.Completions, `{"model":"m","prompt":"fine"}`)
			if err != nil {
				t.Errorf("the next call fails: %v", err)
			}
		})
	}
}

// parrot is a guest whose buffers all lie in its in buffer, and that returns what stands there too: the text
// says everything that the guest says. It is small enough to be made anew for every call.
func parrot() []byte {
	table := le(1024, 4096, 1024+parrotEdits, parrotOut-parrotEdits, 1024+parrotOut, 2000)
	w := (&wasm{}).section(1, "\x60\x00\x00", "\x60\x00\x01\x7f", "\x60\x02\x7f\x7f\x01\x7e").section(3, "\x00", "\x01", "\x02").section(5, "\x00\x01")
	w.section(7, name("memory")+"\x02\x00", name("nexus_abi_1")+"\x00\x00", name("nexus_buffers")+"\x00\x01", name("nexus_on_text")+"\x00\x02")
	w.section(10, "\x02\x00\x0b", "\x04\x00\x41\x08\x0b", "\x08\x00\x41\x80\x08\x29\x03\x00\x0b")
	return w.section(11, "\x00\x41\x08\x0b"+string(rune(len(table)))+table).bytes()
}

// What the parrot says stands in the text: 8 bytes of result, the edits, the out buffer.
const (
	parrotEdits = 8
	parrotOut   = 208
)

// FuzzResult lets a guest return anything with anything in its buffers. The host never panics, and whatever
// it believes is a list of edits that fit (C-21).
func FuzzResult(f *testing.F) {
	f.Add(uint64(0), []byte{}, []byte{}, uint16(300))
	f.Add(uint64(1<<48), []byte(le(0, 1, 0, 1, 1)), []byte("x"), uint16(300))
	f.Add(uint64(2<<48|3), []byte(le(0, 1, 0, 1, 1, 1, 1, 1, 1, 2)), []byte("xy"), uint16(300))
	f.Add(uint64(1<<48), []byte(le(0, 1, 0, 0xffffffff, 1)), []byte("xy"), uint16(300))
	f.Add(uint64(1<<32|8), []byte{}, []byte(record(6, "", "")), uint16(300))
	f.Add(uint64(1<<40|8), []byte{}, []byte("\x00\xffwhy"), uint16(300))
	l, err := NewLoader(Options{Decode: decode, Shipped: fstest.MapFS{
		"parrot.wasm": {Data: parrot()}, "parrot.yaml": {Data: []byte("name: parrot\nhooks: [on_text]\nkinds: [A, B]")},
	}})
	if err != nil {
		f.Fatal(err)
	}
	parrots, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(f), Chain: []Entry{{Name: "parrot"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _, _ = parrots.Close(), l.Close() })
	p := parrots.plugins[0]
	f.Fuzz(func(t *testing.T, r uint64, edits, out []byte, size uint16) {
		text := make([]byte, parrotOut+int(size)%3000)
		binary.LittleEndian.PutUint64(text, r)
		copy(text[parrotEdits:parrotOut], edits)
		copy(text[parrotOut:], out)
		for _, flags := range []uint32{0, abi.FlagFinal} {
			var w window
			made := pass{turn: &turn{}}
			if err := p.run(context.Background(), &w, text, flags, &made); err == nil && made.answer.refused == nil {
				checkEdits(t, made.edits, len(text)-made.hold)
			}
		}
	})
}

func checkEdits(t *testing.T, edits []llm.Edit, end int) {
	t.Helper()
	last := 0
	for _, e := range edits {
		if e.Start < last || e.End < e.Start || e.End > end || !utf8.Valid(e.With) {
			t.Fatalf("believed %v, of %d bytes let go", edits, end)
		}
		last = e.End
	}
}

// TestABadReturnIsTheInstancesLast: an instance that said what cannot be believed is discarded, and the next question
// is answered by a new one; one that said what can be is kept.
func TestABadReturnIsTheInstancesLast(t *testing.T) {
	l := loader(t, fstest.MapFS{"parrot.wasm": {Data: parrot()}, "parrot.yaml": {Data: []byte("name: parrot\nhooks: [on_text]\nkinds: [A]")}})
	s, err := l.Load(context.Background(), &Config{CacheDir: cacheDir(t), Chain: []Entry{{Name: "parrot", Instances: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := s.plugins[0]
	for _, tt := range []struct {
		name, edits, out, cause string
		result                  uint64
	}{
		{name: "nothing"},
		{name: "an edit", result: 1 << 48, edits: le(0, 1, 0, 0, 1)},
		{name: "an unknown verdict", result: 9 << 32, cause: "bad_result"},
		{name: "an edit beyond the end", result: 1 << 48, edits: le(0, 9999, 0, 0, 1), cause: "bad_edit"},
		{name: "a hold of what is final", result: 1, cause: "bad_hold"},
		{name: "half a record", result: 1<<32 | 3, out: "abc", cause: "bad_record"},
		{name: "its own failure", result: 1<<40 | 3, out: "why", cause: "declared"},
		{name: "nothing again"},
	} {
		text := make([]byte, 400)
		binary.LittleEndian.PutUint64(text, tt.result)
		copy(text[parrotEdits:parrotOut], tt.edits)
		copy(text[parrotOut:], tt.out)
		before := p.pool.Stats()
		var a answer
		err := p.ask(context.Background(), &turn{}, piece{text: text, flags: abi.FlagFinal}, &a)
		if FaultCause(err) != tt.cause {
			t.Errorf("%s: got %v, want the cause %q", tt.name, err, tt.cause)
		}
		kept := 1
		if tt.cause != "" {
			kept = 0
		}
		if now := p.pool.Stats(); now.Instances != kept || now.Idle != kept {
			t.Errorf("%s: %d instances after it, %d idle; want %d", tt.name, now.Instances, now.Idle, kept)
		}
		if err := p.ask(context.Background(), &turn{}, piece{text: make([]byte, 400), flags: abi.FlagFinal}, &a); err != nil {
			t.Errorf("%s: the next question: %v", tt.name, err)
		}
		if made := int(p.pool.Stats().Made - before.Made); made != 1-kept {
			t.Errorf("%s: %d instances were made for the next question, want %d", tt.name, made, 1-kept)
		}
	}
}
