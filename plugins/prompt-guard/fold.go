package main

// What fold says of characters that no ASCII stands for.
const (
	hidden  = 0
	unknown = 0xff
)

// ascii is the symbol of each ASCII letter and digit; 0: it separates. Digits that are written for letters
// count as these, in texts and in words alike.
var ascii = symbols()

func symbols() (t [256]byte) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = byte(c), byte(c)
	}
	for i, c := range []byte("oi2eas6t89") {
		t['0'+i] = c
	}
	return t
}

// fold returns the ASCII character that r looks like, hidden when r has no look, unknown when it is a letter of
// its own. Signs that are like no other are '~'.
func fold(r rune) byte {
	switch {
	case r < 0x80:
		return byte(max(r, 1))
	case r < 0x180:
		return latin[r-0x80]
	case r < 0x370:
		return between(r)
	case r < 0x530:
		return alike(r)
	case invisibleRune(r):
		return hidden
	case r >= 0x2000 && r < 0x2c00:
		return sign(r)
	case r >= 0x3000 && r < 0x3040:
		return eastern(r)
	case r >= 0xff01 && r <= 0xff5e:
		return byte(r - 0xff01 + '!')
	case r >= 0xd800 && r < 0xe000, r >= 0xff00 && r <= 0xffff, r >= 0x30fb && r < 0x30fc:
		return '~'
	case r >= 0x1d400:
		return styled(r)
	}
	return unknown
}

// latin are U+0080 to U+017F.
const latin = "                                " +
	" ~~~~~~~~~a\"~\x00~~~~23~u~~~1o\"~~~~" +
	"aaaaaaaceeeeiiiidnooooo~ouuuuypsaaaaaaaceeeeiiiidnooooo~ouuuuypy" +
	"aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiiiiijjkkkllllllllllnnnnnnnnnoooooooorrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzzs"

// between are the letters of phonetics and combining marks.
func between(r rune) byte {
	switch {
	case r >= 0x300:
		return hidden
	case r == 0x251:
		return 'a'
	case r == 0x261:
		return 'g'
	case r == 0x26a || r == 0x269:
		return 'i'
	case r >= 0x2b0:
		return '~'
	}
	return unknown
}

// alike finds Greek and Cyrillic letters that look like Latin ones.
func alike(r rune) byte {
	switch {
	case r == 0x37e:
		return ';'
	case r >= 0x391 && r <= 0x3c9:
		return known(greek[r-0x391])
	case r >= 0x400 && r < 0x460:
		return known(cyrillic[r-0x400])
	case r >= 0x483 && r <= 0x489:
		return hidden
	}
	const rare = "\u0455s\u0456i\u0458j\u0501d\u051bq\u051dw\u04bbh\u04cfl\u0475v\u04aey\u04afy"
	for i := 0; i+2 < len(rare); i += 3 {
		if rare[i] == byte(0xc0|r>>6) && rare[i+1] == byte(0x80|r&0x3f) {
			return rare[i+2]
		}
	}
	return unknown
}

// known reads the tables below, where . is a letter of its own.
func known(c byte) byte {
	if c == '.' {
		return unknown
	}
	return c
}

const (
	greek    = "ab..ezh.ik.mn.o.p..ty.x.........a.y.e...ik..v.o.p..tu.x.."
	cyrillic = "ee...siij.......a.b..e....k.mho.pcty.x..........a.b..e....k.mho.pcty.x..........ee...siij......."
)

// sign folds U+2000 to U+2BFF: spaces, dashes, quotes, arrows, enclosed letters.
func sign(r rune) byte {
	switch {
	case r <= 0x200a, r == 0x2028, r == 0x2029, r == 0x202f, r == 0x205f:
		return ' '
	case r <= 0x2015:
		return '-'
	case r >= 0x2018 && r <= 0x201b:
		return '\''
	case r >= 0x201c && r <= 0x201f:
		return '"'
	case r >= 0x2460 && r <= 0x2468:
		return byte(r-0x2460) + '1'
	case r >= 0x249c && r <= 0x24b5:
		return byte(r-0x249c) + 'a'
	case r >= 0x24b6 && r <= 0x24e9:
		return byte(r-0x24b6)%26 + 'a'
	case r >= 0x20d0 && r <= 0x20ff:
		return hidden
	}
	return '~'
}

// eastern folds the punctuation of Korean, Chinese and Japanese.
func eastern(r rune) byte {
	switch r {
	case 0x3000:
		return ' '
	case 0x3008, 0x300a:
		return '<'
	case 0x3009, 0x300b:
		return '>'
	case 0x300c, 0x300d, 0x300e, 0x300f, 0x301d, 0x301e:
		return '"'
	case 0x3010:
		return '['
	case 0x3011:
		return ']'
	case 0x3005, 0x3006, 0x3007:
		return unknown
	}
	return '~'
}

// styled folds the letters of mathematics, squares, emoji, and the tags that repeat ASCII unseen.
func styled(r rune) byte {
	switch {
	case r <= 0x1d6a3:
		return byte((r-0x1d400)%26) + 'a'
	case r >= 0x1d7ce && r <= 0x1d7ff:
		return byte((r-0x1d7ce)%10) + '0'
	case r >= 0x1f110 && r <= 0x1f189:
		return byte((r-0x1f110)%32%26) + 'a'
	case r >= 0x1f000 && r <= 0x1faff:
		return '~'
	case r >= 0xe0020 && r <= 0xe007e:
		return byte(r - 0xe0000)
	}
	return unknown
}

// invisibleRune reports whether r takes no room, or only that of a space that is none.
func invisibleRune(r rune) bool {
	switch {
	case r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x206f, r >= 0xfe00 && r <= 0xfe0f:
		return true
	case r == 0x61c, r == 0x115f, r == 0x1160, r == 0x17b4, r == 0x17b5, r == 0x3164, r == 0xfeff, r == 0xffa0, r == 0xe0001, r == 0xe007f:
		return true
	case r >= 0x180b && r <= 0x180f, r >= 0x1ab0 && r <= 0x1aff, r >= 0x1dc0 && r <= 0x1dff, r >= 0xfe20 && r <= 0xfe2f, r >= 0xe0100 && r <= 0xe01ef:
		return true
	}
	return false
}
