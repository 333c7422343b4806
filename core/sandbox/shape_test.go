package sandbox

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// sample is a module with something in every section.
func sample() []byte {
	in := bytes.Repeat([]byte{3, 9, 4, 200, 17, 5, 8, 40}, 60)
	return cat(generate(in), ops(secCustom), u(9), str("made"), []byte("here"))
}

func TestInspect(t *testing.T) {
	s, err := Inspect(sample())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Imports) != 1 || s.Imports[0].Module != "test" || s.Imports[0].Name != "nop" || s.Imports[0].Kind != ExternFunc {
		t.Errorf("imports are %+v", s.Imports)
	}
	x := s.Exports["run"]
	if x.Kind != ExternFunc || !x.Signature.equal(Signature{Results: []Type{I64}}) || s.Exports["memory"].Kind != ExternMemory {
		t.Errorf("exports are %+v", s.Exports)
	}
	if s.Memory.Min != 1 || !s.Memory.HasMax || !slices.Equal(s.Customs, []string{"made"}) {
		t.Errorf("memory is %+v, customs are %q", s.Memory, s.Customs)
	}
}

func TestInspectRefuses(t *testing.T) {
	good := sample()
	header := good[:8]
	tests := []struct {
		name string
		wasm []byte
		want string
	}{
		{"empty", nil, "it is empty"},
		{"text", []byte("(module)"), `not a WebAssembly module (starts with "(module)")`},
		{"ELF", []byte("\x7fELF\x02\x01\x01\x00\x00"), `not a WebAssembly module (starts with "\x7fELF`},
		{"component", []byte("\x00asm\x0d\x00\x01\x00"), "a component, not a core module"},
		{"version", []byte("\x00asm\x02\x00\x00\x00"), "unknown version 02 00 00 00"},
		{"cut in the header", good[:6], "truncated at byte 6"},
		{"cut in a section", good[:100], "truncated at byte 100"},
		{"section 13", cat(header, ops(13, 1, 0)), "unknown section 13 at byte 8"},
		{"order", cat(header, ops(3, 1, 0, 1, 1, 0)), "section 1 at byte 11 is out of order"},
		{"rest in a section", cat(header, ops(1, 2, 0, 0)), "section 1 ends at byte 12, but its content at 11"},
		{"shared memory", cat(header, ops(5, 4, 1, 3, 1, 1)), "limits flag 0x3 at byte 11"},
		{"huge count", cat(header, ops(1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f)), "truncated"},
		{"long number", cat(header, ops(1, 6, 0x80, 0x80, 0x80, 0x80, 0x80, 0)), "number too long at byte 10"},
		{"no such type", cat(header, ops(3, 2, 1, 7)), "no type 7 at byte 11"},
		{"repeated export", cat(header, ops(7, 9, 2, 1, 'a', 2, 0, 1, 'a', 2, 0)), `export "a" at byte 15 is repeated`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Inspect(tt.wasm); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestTruncated: a module cut anywhere is refused or, between sections, read without them, but never a panic.
func TestTruncated(t *testing.T) {
	good := sample()
	for n := range good {
		_, inspected := Inspect(good[:n])
		if _, err := metered(good[:n]); err == nil && inspected != nil {
			t.Errorf("cut at byte %d: inspected as %v, but metered", n, inspected)
		}
	}
}

// FuzzInspect: whatever the meter takes can be inspected, and what it makes has the same imports and exports
// and more.
func FuzzInspect(f *testing.F) {
	f.Add(sample())
	f.Add([]byte("\x00asm\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, wasm []byte) {
		s, err := Inspect(wasm)
		out, failed := metered(wasm)
		if failed != nil {
			return
		}
		if err != nil {
			t.Fatalf("metered, but inspected as %v", err)
		}
		after, err := Inspect(out)
		if err != nil {
			t.Fatalf("what the meter made is refused: %v", err)
		}
		if len(after.Imports) != len(s.Imports)+added || after.Memory != s.Memory {
			t.Errorf("%+v became %+v", s, after)
		}
		for name, x := range s.Exports {
			if y := after.Exports[name]; y.Kind != x.Kind || !y.Signature.equal(x.Signature) {
				t.Errorf("export %q was %v, is %v", name, x, y)
			}
		}
	})
}
