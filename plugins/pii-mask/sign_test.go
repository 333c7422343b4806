package main

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestNextSign(t *testing.T) {
	for c := range 256 {
		for at := range 20 {
			b := bytes.Repeat([]byte("a"), 20)
			b[at] = byte(c)
			want := 20
			if sign(byte(c)) {
				want = at
			}
			for from := range 21 {
				expect := want
				if from > at {
					expect = 20
				}
				if got := nextSign(b, from); got != expect {
					t.Fatalf("byte %#x at %d, from %d: got %d, want %d", c, at, from, got, expect)
				}
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
		"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
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
