package balance

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// The vectors that wyhash publishes with its final version 4.2.
func TestHashVectors(t *testing.T) {
	for i, tt := range []struct {
		in   string
		want uint64
	}{
		{"", 0x93228a4de0eec5a2},
		{"a", 0xc5bac3db178713c4},
		{"abc", 0xa97f2f7b1d9b3314},
		{"message digest", 0x786d1f1df3801df4},
		{"abcdefghijklmnopqrstuvwxyz", 0xdca5a8138ad37c87},
		{"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 0xb9e734f117cfaf70},
		{"12345678901234567890123456789012345678901234567890123456789012345678901234567890", 0x6cc5eab49a92d617},
	} {
		if got := Hash([]byte(tt.in), uint64(i)); got != tt.want {
			t.Errorf("Hash(%q, %d) = %#x, want %#x", tt.in, i, got, tt.want)
		}
	}
}

func text(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func chainOf(seed uint64, pieces ...[]byte) []uint64 {
	var c Chain
	c.Reset(seed)
	for _, p := range pieces {
		c.Write(p)
	}
	return c.Blocks
}

func TestChainIsTheSameHoweverThePromptIsCut(t *testing.T) {
	prompt := text(5*BlockBytes+17, 1)
	whole := chainOf(7, prompt)
	if len(whole) != 5 {
		t.Fatalf("%d blocks, want 5: the last counts when it is full", len(whole))
	}
	for cut := range prompt {
		if got := chainOf(7, prompt[:cut], prompt[cut:]); !slices.Equal(got, whole) {
			t.Fatalf("cut at %d: %x, want %x", cut, got, whole)
		}
	}
	single := make([][]byte, len(prompt))
	for i := range prompt {
		single[i] = prompt[i : i+1]
	}
	if got := chainOf(7, single...); !slices.Equal(got, whole) {
		t.Errorf("byte by byte: %x, want %x", got, whole)
	}
}

func TestChainStandsForAllBefore(t *testing.T) {
	a := text(6*BlockBytes, 1)
	b := bytes.Clone(a)
	b[3*BlockBytes+5] ^= 1
	x, y := chainOf(7, a), chainOf(7, b)
	for i := range x {
		if same := x[i] == y[i]; same != (i < 3) {
			t.Errorf("block %d the same: %v, want %v", i, same, i < 3)
		}
	}
	swapped := slices.Concat(a[BlockBytes:2*BlockBytes], a[:BlockBytes])
	if chainOf(7, swapped)[1] == x[1] {
		t.Error("two blocks in another order have the same hash")
	}
	for i, h := range chainOf(8, a) {
		if h == x[i] {
			t.Errorf("block %d is the same under another seed", i)
		}
	}
}

func TestChainIsBounded(t *testing.T) {
	prompt := text((MaxBlocks+3)*BlockBytes+1, 1)
	got := chainOf(7, prompt[:100], prompt[100:])
	if len(got) != MaxBlocks || !slices.Equal(got, chainOf(7, prompt)) {
		t.Errorf("%d blocks, want the first %d however cut", len(got), MaxBlocks)
	}
}

func BenchmarkChain(b *testing.B) {
	for _, kb := range []int{1, 64} {
		b.Run(fmt.Sprintf("%dKB", kb), func(b *testing.B) {
			prompt := text(kb<<10, 1)
			var c Chain
			b.SetBytes(int64(len(prompt)))
			b.ReportAllocs()
			for b.Loop() {
				c.Reset(7)
				c.Write(prompt)
			}
		})
	}
}
