package llm

import (
	"encoding/binary"
	"math/bits"
)

// EstimateTokens guesses how many tokens text makes, for when no backend has counted yet: a quarter of
// a token an ASCII byte and one a non-ASCII rune (a Hangul syllable is 0.7 to 1.5 tokens in the
// vocabularies of current models), rounded up. It reads raw JSON string bytes as well as decoded text.
func EstimateTokens(text []byte) int64 {
	ascii, runes := 0, 0 // bytes below 0x80 and bytes that begin a longer rune
	i := 0
	for ; i+8 <= len(text); i += 8 {
		w := binary.LittleEndian.Uint64(text[i:])
		ascii += bits.OnesCount64(^w & tops)
		runes += bits.OnesCount64(w & (w << 1) & tops)
	}
	for _, b := range text[i:] {
		if b < 0x80 {
			ascii++
		} else if b >= 0xC0 {
			runes++
		}
	}
	return int64((ascii+3)/4 + runes)
}
