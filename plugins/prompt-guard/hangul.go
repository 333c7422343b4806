package main

// Symbols of Hangul: consonants are upper-case letters, which nothing else is after folding, vowels control bytes.
const (
	consonant = 'A'
	vowel     = 1
	vowels    = 21
)

// Composed syllables in Unicode.
const (
	firstSyllable = 0xac00
	lastSyllable  = 0xd7a3
	syllables     = lastSyllable - firstSyllable + 1
)

func isJamo(r rune) bool {
	return r >= 0x1100 && r <= 0x11ff || r >= 0x3131 && r <= 0x3163 || r >= 0xffa1 && r <= 0xffdc
}

func isVowel(c byte) bool  { return c >= vowel && c < vowel+vowels }
func isHangul(c byte) bool { return isVowel(c) || c >= 'A' && c <= 'S' }

// tails are the final consonants in Unicode's order, double ones as two.
var tails = [28]string{"", "A", "B", "AJ", "C", "CM", "CS", "D", "F", "FA", "FG", "FH", "FJ", "FQ", "FR", "FS", "G", "H", "HJ",
	"J", "K", "L", "M", "O", "P", "Q", "R", "S"}

// loose are the consonants of the compatibility letters U+3131 to U+314E.
var loose = [30]string{"A", "B", "AJ", "C", "CM", "CS", "D", "E", "F", "FA", "FG", "FH", "FJ", "FQ", "FR", "FS", "G", "H", "I",
	"HJ", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S"}

const eachVowel = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15"
const eachConsonant = "ABCDEFGHIJKLMNOPQRS"

// letters returns the symbols of a loose Hangul letter, and 1 for a consonant, 2 for a vowel, 3 for a final
// consonant; 0 for what is not seen.
func letters(r rune) (symbols string, kind uint8) {
	switch {
	case r >= 0x1100 && r <= 0x1112:
		return eachConsonant[r-0x1100 : r-0x1100+1], 1
	case r >= 0x1161 && r <= 0x1175:
		return eachVowel[r-0x1161 : r-0x1161+1], 2
	case r >= 0x11a8 && r <= 0x11c2:
		return tails[r-0x11a8+1], 3
	case r >= 0x3131 && r <= 0x314e:
		return loose[r-0x3131], 1
	case r >= 0x314f && r <= 0x3163:
		return eachVowel[r-0x314f : r-0x314f+1], 2
	case r >= 0xffa1 && r <= 0xffbe:
		return loose[r-0xffa1], 1
	case r >= 0xffc2 && (r-0xffc2)%8 < 6 && r <= 0xffdc:
		i := (r-0xffc2)/8*6 + (r-0xffc2)%8
		return eachVowel[i : i+1], 2
	}
	return "", 0
}
