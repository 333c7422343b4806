package llm

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEstimateTokens(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int64
	}{{"", 0}, {"a", 1}, {"abcd", 1}, {"abcde", 2}, {"한국", 2}, {"안녕, 세상 😀!", 6}, {strings.Repeat("한a", 80), 100}} {
		if got := EstimateTokens([]byte(tt.in)); got != tt.want {
			t.Errorf("%q: got %d, want %d", tt.in, got, tt.want)
		}
	}
	text := strings.Repeat("The quick 갈색 여우 🦊 é. ", 9)
	for i := range text { // at every alignment
		ascii, runes := 0, 0
		for _, r := range text[i:] {
			if r < utf8.RuneSelf {
				ascii++
			} else {
				runes++
			}
		}
		if got, want := EstimateTokens([]byte(text[i:])), int64((ascii+3)/4+runes); got != want {
			t.Fatalf("from %d: got %d, want %d", i, got, want)
		}
	}
}
