package main

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestNextSign(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int
	}{
		{"", 0}, {"plain words only, and more of them", 34}, {"a word and kim@example.com", 14}, {"costs $5 or 50% of 3.14 in 2026, they say", 41},
		{"call 010-2345-6789 now", 5}, {"call (02) 300 4000 now", 6}, {"kim%40example.com", 3}, {"kim&#64;example.com", 3}, {"R&D and Q&A here", 16},
		{"wide ０１０ digits", 5}, {"❤️ is no digit", len("❤️ is no digit")}, {"open end 12", 9}, {"open end 1%", 9}, {"1234567 then a word", 19}, {"12345678 then a word", 0},
		{"12 가 34 나 56 다 78 x", 0},
	} {
		if got := nextSign([]byte(tt.text), 0); got != tt.want {
			t.Errorf("%q: got %d, want %d", tt.text, got, tt.want)
		}
	}
}

// TestEightAtATime looks at every byte in every place of a word.
func TestEightAtATime(t *testing.T) {
	for c := range 256 {
		for at := range 20 {
			b := bytes.Repeat([]byte("a"), 32)
			b[at] = byte(c)
			copy(b[at+1:], "#64") // what & goes on to; and for the others nothing
			want := 32
			switch byte(c) {
			case '@', '&':
				want = at
			}
			if got := nextSign(b, 0); got != want {
				t.Fatalf("byte %#x at %d: got %d, want %d", c, at, got, want)
			}
		}
	}
}

// everywhere is Next without the leap to the next sign.
func everywhere(b []byte, from int, final bool, want Set) Match {
	for i := from; i < len(b); {
		if i = pass(b, i); i == len(b) {
			break
		}
		m, next := at(b, i, final, want)
		if m.Kind != None || next == i {
			return m
		}
		i = next
	}
	return Match{Start: len(b)}
}

func leapChangesNothing(t *testing.T, b []byte) {
	t.Helper()
	for _, final := range []bool{true, false} {
		for from := 0; from <= len(b); from += 1 + len(b)/7 {
			want, got := everywhere(b, from, final, All), Next(b, from, final, All)
			if got != want {
				t.Fatalf("%q from %d, final %v: got %+v, want %+v", b, from, final, got, want)
			}
		}
	}
}

func TestLeapChangesNothing(t *testing.T) {
	pieces := []string{
		"kim@example.co.kr", "010-2345-6789", "+82 10 2345 6789", "900101-1234567", "4111 1111 1111 1111", "０１０-１２３４-５６７８",
		"a", " ", "\n", `\\u0040`, "%40", "&#64;", "&", "@", "가나다라 ", "(02) 123-4567", "...", "x.y-z_", "0", "-", "１", "$5", "100%", "hello world ",
		"12", "345", "6789", "50%", "%2D", "&#45;", "3.14", "\u200b", "\u2011", "❤️", "2026년", "a1", ",", "\"",
		"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 40_000 {
		var b []byte
		for range r.IntN(24) {
			b = append(b, pieces[r.IntN(len(pieces))]...)
		}
		leapChangesNothing(t, b)
	}
}

func FuzzLeap(f *testing.F) {
	f.Add([]byte("mail kim@example.com or 010-2345-6789, please"))
	f.Fuzz(func(t *testing.T, b []byte) { leapChangesNothing(t, b) })
}
