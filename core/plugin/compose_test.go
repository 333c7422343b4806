package plugin

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
)

func edit(start, end int, with string) llm.Edit {
	return llm.Edit{Start: start, End: end, With: []byte(with)}
}

func TestCompose(t *testing.T) {
	tests := []struct {
		name          string
		first, second []llm.Edit
		want          []llm.Edit
	}{
		{"apart", []llm.Edit{edit(0, 2, "ab!")}, []llm.Edit{edit(5, 6, "X")}, []llm.Edit{edit(0, 2, "ab!"), edit(4, 5, "X")}},
		{"before", []llm.Edit{edit(4, 6, "")}, []llm.Edit{edit(0, 1, "X")}, []llm.Edit{edit(0, 1, "X"), edit(4, 6, "")}},
		{"inside", []llm.Edit{edit(2, 4, "wxyz")}, []llm.Edit{edit(3, 5, "-")}, []llm.Edit{edit(2, 4, "w-z")}},
		{"over the start", []llm.Edit{edit(2, 4, "wxyz")}, []llm.Edit{edit(0, 3, "-")}, []llm.Edit{edit(0, 4, "-xyz")}},
		{"over the end", []llm.Edit{edit(2, 4, "wxyz")}, []llm.Edit{edit(5, 8, "-")}, []llm.Edit{edit(2, 6, "wxy-")}},
		{"over two", []llm.Edit{edit(1, 2, "AA"), edit(4, 5, "BB")}, []llm.Edit{edit(2, 6, "-")}, []llm.Edit{edit(1, 5, "A-B")}},
		{"two over one", []llm.Edit{edit(2, 3, "wxyz")}, []llm.Edit{edit(1, 3, "1"), edit(5, 7, "2")}, []llm.Edit{edit(1, 4, "1xy2")}},
		{"touching", []llm.Edit{edit(2, 4, "xy")}, []llm.Edit{edit(4, 6, "-")}, []llm.Edit{edit(2, 4, "xy"), edit(4, 6, "-")}},
		{"over a deletion", []llm.Edit{edit(2, 4, "")}, []llm.Edit{edit(1, 3, "-")}, []llm.Edit{edit(1, 5, "-")}},
		{"insertion behind an insertion", []llm.Edit{edit(2, 2, "ab")}, []llm.Edit{edit(4, 4, "X")}, []llm.Edit{edit(2, 2, "ab"), edit(2, 2, "X")}},
		{"second alone", nil, []llm.Edit{edit(4, 4, "X")}, []llm.Edit{edit(4, 4, "X")}},
		{"first alone", []llm.Edit{edit(4, 4, "X")}, nil, []llm.Edit{edit(4, 4, "X")}},
	}
	text := []byte("0123456789")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := compose(tt.first, tt.second)
			for i := range got {
				if len(got[i].With) == 0 {
					got[i].With = []byte{}
				}
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			checkCompose(t, text, tt.first, tt.second)
		})
	}
}

// checkCompose holds the law: both at once is one after the other; and what comes out is a list of edits.
func checkCompose(t *testing.T, text []byte, first, second []llm.Edit) {
	t.Helper()
	want := apply(nil, apply(nil, text, first), second)
	both := compose(slices.Clone(first), slices.Clone(second))
	last := 0
	for _, e := range both {
		if e.Start < last || e.End < e.Start || e.End > len(text) {
			t.Fatalf("%v is out of order or out of bounds in %v", e, both)
		}
		last = e.End
	}
	if got := apply(nil, text, both); !bytes.Equal(got, want) {
		t.Fatalf("%q by %v and %v:\n got %q by %v\nwant %q", text, first, second, got, both, want)
	}
}

// editsFrom makes a list of edits of a text of n bytes out of any bytes.
func editsFrom(seed []byte, n int) (all []llm.Edit) {
	at := 0
	for len(seed) >= 3 {
		start := at + int(seed[0]%8)
		end := start + int(seed[1]%8)
		if end > n {
			break
		}
		all = append(all, llm.Edit{Start: start, End: end, With: bytes.Repeat([]byte{'a' + seed[2]%26}, int(seed[2]>>4)), Kind: uint16(seed[2] & 3)})
		at, seed = end, seed[3:]
	}
	return all
}

func FuzzCompose(f *testing.F) {
	f.Add([]byte("\x01\x02\x33\x00\x00\x44"), []byte("\x02\x04\x21"), uint8(20))
	f.Add([]byte("\x00\x07\x00\x00\x07\x00"), []byte("\x00\x00\x11\x00\x00\x21"), uint8(14))
	f.Fuzz(func(t *testing.T, a, b []byte, n uint8) {
		text := make([]byte, n)
		for i := range text {
			text[i] = 'A' + byte(i%26)
		}
		first := editsFrom(a, len(text))
		checkCompose(t, text, first, editsFrom(b, len(apply(nil, text, first))))
	})
}
