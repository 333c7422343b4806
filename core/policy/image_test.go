package policy

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// memoryOf is a guest's memory that holds an image.
func memoryOf(image []byte) []byte { return append(make([]byte, imageBase), image...) }

// imaged is what a module would read of the input.
func imaged(t testing.TB, p plan, f *facts) ast.Value {
	t.Helper()
	w := imager{table: 16}
	return readImage(t, p.write(f, &w), w.table)
}

func readImage(t testing.TB, image []byte, root int) ast.Value {
	t.Helper()
	c := copier{memory: memoryOf(image)}
	c.value(imageBase + uint32(root))
	v, ok := parseWire(c.out)
	if c.bad || !ok {
		t.Fatalf("the image cannot be read: %q", c.out)
	}
	return v
}

// A writer that is used again leaves nothing of what it wrote before.
func TestImagesFollowEachOther(t *testing.T) {
	s := stage(Env{Fleet: fleet{"a": {Pool: "p", Healthy: true, LoadKnown: true, KVUsed: 0.25, Price: 1.5}}}, nil, nil)
	long, short := newCall(t, chatBody), newCall(t, `{"model":"m","messages":[{"role":"user","content":"x"}]}`)
	long.Start, short.Start = time.UnixMilli(1), time.UnixMilli(2)
	long.Labels = map[string]string{}
	for _, c := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		long.Labels["label-"+c] = strings.Repeat(c, 40)
	}
	var w imager
	for _, c := range []int{0, 1, 0, 1, 1} {
		f := s.facts([...]*pipeline.Call{long, short}[c])
		if got, want := readImage(t, s.plan.write(f, &w), 0), s.plan.build(f); got.Compare(want) != 0 {
			t.Errorf("got %v\nwant %v", got, want)
		}
	}
}

func TestImageOfOddTexts(t *testing.T) {
	c := newCall(t, chatBody)
	c.Start = time.UnixMilli(1)
	c.Principal.Team = "a\xff\xfeb"
	s := stage(Env{}, nil, nil)
	if got, want := imaged(t, s.plan, s.facts(c)), s.plan.build(s.facts(c)); got.Compare(want) != 0 {
		t.Errorf("bytes that are no UTF-8: got %v\nwant %v", got, want)
	}
	var w imager
	if s.plan.write(s.facts(c), &w); w.odd {
		t.Error("a text without NUL is odd")
	}
	c.Principal.Team = "a\x00b"
	if s.plan.write(s.facts(c), &w); !w.odd {
		t.Error("a text with a NUL is not left to topdown")
	}
}

// FuzzImage writes any value that an input may hold, and reads it back.
func FuzzImage(f *testing.F) {
	f.Add([]byte(`{"a": [1, -5, 0.25, true, null, "x", {"b": {}}], "é": "\n"}`))
	f.Add([]byte(`{"a":{"a":{"a":1e300}},"b":9223372036854775807,"c":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		var raw map[string]any
		if d.Decode(&raw) != nil {
			return
		}
		v, err := ast.InterfaceToValue(raw)
		input, ok := v.(ast.Object)
		if err != nil || !ok {
			return
		}
		w := imager{b: make([]byte, front)}
		w.begin(level{})
		w.members(input)
		w.fill(0, w.finish())
		c := copier{memory: memoryOf(w.b)}
		c.value(imageBase)
		if c.bad {
			return // too deep or too large
		}
		got, ok := parseWire(c.out)
		if !ok {
			t.Fatalf("%q cannot be read", c.out)
		}
		if !w.odd && exactNumbers(input) && got.Compare(input) != 0 {
			t.Fatalf("got %v\nwant %v", got, input)
		}
	})
}

// exactNumbers reports whether every number of v is one that input may hold: an integer of 64 bits, or a float.
func exactNumbers(v ast.Value) bool {
	exact := true
	ast.WalkTerms(ast.NewTerm(v), func(t *ast.Term) bool {
		if n, ok := t.Value.(ast.Number); ok && len(n) > 15 {
			exact = false
		}
		return false
	})
	return exact
}

// FuzzCopier reads what a guest may have left in its memory.
func FuzzCopier(f *testing.F) {
	var w imager
	s := &Stage{}
	f.Add(plan{}.write(&facts{stage: s}, &w), uint32(0))
	f.Add([]byte{typeArray, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, uint32(0))
	f.Add([]byte{typeObject, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0}, uint32(0))
	f.Fuzz(func(t *testing.T, memory []byte, at uint32) {
		c := copier{memory: memory}
		if c.value(at % uint32(len(memory)+8)); c.bad {
			return
		}
		if v, ok := parseWire(c.out); ok && v == nil {
			t.Fatal("nothing was read")
		}
	})
}

// FuzzWire reads anything.
func FuzzWire(f *testing.F) {
	f.Add([]byte("o\x01s\x01ad\x011"))
	f.Add([]byte("a\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, ok := parseWire(b); ok && v == nil {
			t.Fatal("nothing was read")
		}
	})
}
