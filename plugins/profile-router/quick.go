package main

// quick tells places where no keyword begins, by the first two characters. Most of a text is passed over by it.
type quick struct {
	ascii    [256]uint64   // by the first byte, in either case: the sorts of bytes that may follow
	starts   [256]uint8    // what each byte begins
	letters  [codes]uint32 // codes of keywords
	breaks   [codes]uint32 // of those that may go on with what is no letter
	hangul   [(syllables + 31) / 32]uint32
	alone    [(syllables + 31) / 32]uint32 // of hangul, those behind which anything may follow
	together [pairs / 32]uint32            // first and second syllables
}

// What a byte may begin.
const (
	nothing = iota
	aWord   // a letter or digit: what goes on with it is one word
	keySign // a sign that a keyword begins with
	beyond  // a character beyond ASCII
)

// Sorts of bytes: letters and digits have their own.
const (
	alphabet = 36
	wide     = 36 // not ASCII, or the end of the text
	blank    = 37
	sign     = 38
)

var sorts = func() (t [256]uint8) {
	for c := range t {
		switch f := fold(byte(c)); {
		case c >= 0x80:
			t[c] = wide
		case f == ' ' || f == '\n' || f == '\t' || f == '\r':
			t[c] = blank
		case !alphanumeric(f):
			t[c] = sign
		case f <= '9':
			t[c] = f - '0'
		default:
			t[c] = f - 'a' + 10
		}
	}
	return t
}()

const (
	firstSyllable = 0xac00
	syllables     = 11172
	pairs         = 1 << 12
)

func pair(a, b uint) uint { return (a*61 + b) % pairs }

// codes is how many words of 32 bits a set of codes has.
const codes = (alphabet*alphabet*alphabet + 31) / 32

// code is the number of three letters or digits, -1 of what else begins with b.
func code(b []byte) int {
	n := 0
	for i := range 3 {
		if i >= len(b) || sorts[b[i]] >= alphabet {
			return -1
		}
		n = n*alphabet + int(sorts[b[i]])
	}
	return n
}

// Codes of keywords that do not begin with three letters or digits.
const (
	short = -1 // it has fewer: what goes on behind it may be anything
	mixed = -2
)

// codeOf is the code of a keyword, in which a space may be none.
func codeOf(runes []rune) int {
	var b []byte
	for _, r := range runes {
		if r != ' ' && len(b) < 3 {
			b = append(b, byte(min(r, 0x80)))
		}
	}
	switch n := code(b); {
	case n >= 0:
		return n
	case len(b) < 3:
		return short
	}
	return mixed
}

// add adds what a keyword begins with.
func (q *quick) add(runes []rune) {
	first := uint(runes[0])
	all := len(runes) == 1 || runes[1] == ' '
	if first < 0x80 {
		q.addASCII(runes, all)
		return
	}
	v := first - firstSyllable
	if v >= syllables {
		return
	}
	q.hangul[v/32] |= 1 << (v % 32)
	if all || uint(runes[1])-firstSyllable >= syllables {
		q.alone[v/32] |= 1 << (v % 32)
		return
	}
	p := pair(v, uint(runes[1])-firstSyllable)
	q.together[p/32] |= 1 << (p % 32)
}

func (q *quick) addASCII(runes []rune, all bool) {
	may := uint64(1 << wide)
	switch {
	case all:
		may = 1<<64 - 1
	case runes[1] < 0x80:
		may |= 1 << sorts[runes[1]]
	}
	for c := range byte(0x80) {
		if fold(c) == byte(runes[0]) {
			q.ascii[c] |= may
			q.starts[c] = keySign
		}
	}
	for c := range q.starts {
		switch {
		case c >= 0x80:
			q.starts[c] = beyond
		case sorts[c] < alphabet:
			q.starts[c] = aWord
		}
	}
	switch n := codeOf(runes); n {
	case mixed:
	case short: // seldom, and then anything may begin it
		for i := range q.letters {
			q.letters[i], q.breaks[i] = 1<<32-1, 1<<32-1
		}
	default:
		q.letters[n/32] |= 1 << (n % 32)
		if runes[1] == ' ' || runes[2] == ' ' || len(runes) == 3 || !latin(runes[3]) {
			q.breaks[n/32] |= 1 << (n % 32)
		}
	}
}

// pass returns the first place from i on where a keyword may begin; before says that a letter of Latin stands before
// i. It calls nothing: calls are what costs in Wasm.
func (q *quick) pass(b []byte, from int, before bool) int {
	i, n := uint(from), uint(len(b))
	starts := &q.starts
	for i < n {
		kind := starts[b[i]]
		if kind == nothing {
			before = false
			i++
			continue
		}
		if kind == keySign {
			break
		}
		if kind == aWord {
			if !before && q.word(b, i) {
				break
			}
			for i++; i < n && starts[b[i]] == aWord; i++ { // the rest of the word
			}
			before = false
			continue
		}
		before = false
		if i+3 > n {
			break
		}
		v := syllable(b[i], b[i+1], b[i+2])
		if v >= syllables || i+3 < n && b[i+3] == 0xe1 { // decomposed Hangul may go on
			break
		}
		if q.hangul[v/32]>>(v%32)&1 == 0 {
			i += 3
			continue
		}
		if q.alone[v/32]>>(v%32)&1 != 0 || i+6 > n || i+6 < n && b[i+6] == 0xe1 {
			break
		}
		if second := syllable(b[i+3], b[i+4], b[i+5]); second < syllables {
			if p := pair(v, second); q.together[p/32]>>(p%32)&1 == 0 {
				i += 3
				continue
			}
		} else if b[i+3] < 0x80 {
			i += 3
			continue
		}
		break
	}
	return int(i)
}

// word reports whether a keyword may begin with the letter at i, behind none.
func (q *quick) word(b []byte, i uint) bool {
	may := q.ascii[b[i]]
	if may == 0 || i+2 >= uint(len(b)) {
		return may != 0
	}
	first, second, third := uint(sorts[b[i]]), uint(sorts[b[i+1]]), uint(sorts[b[i+2]])
	if may>>second&1 == 0 {
		return false
	}
	if second >= alphabet || third >= alphabet {
		return true
	}
	n := (first*alphabet+second)*alphabet + third
	if i+3 < uint(len(b)) && sorts[b[i+3]] > wide {
		return q.breaks[n/32]>>(n%32)&1 != 0
	}
	return q.letters[n/32]>>(n%32)&1 != 0
}

// syllable returns the number of the composed syllable that three bytes are, or one that is none.
func syllable(a, b, c byte) uint {
	return uint(a)<<12 + uint(b)<<6 + uint(c) - (0xe0<<12 + 0x80<<6 + 0x80 + firstSyllable)
}
