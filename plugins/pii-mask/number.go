package main

// maxDigits is one more than the longest number looked for, so that a longer one is seen to be longer.
const maxDigits = 20

// A number is a run of digits with at most one separator between two of them, as people write phone
// numbers, cards and registrations.
type number struct {
	digits  [maxDigits]byte
	end     [maxDigits]int
	sep     [maxDigits]byte // what stands before the digit: 0 nothing, - . ( ) space, ~ for " - "
	n       int
	start   int
	plus    bool
	paren   bool // begins with an opening parenthesis
	spoiled bool // the last digit is followed by a letter or one more digit
}

// startsNumber reports whether a number may start at i, by what stands before it.
func startsNumber(b []byte, i int) bool {
	if _, size := digitAt(b, i); size == 0 && class[b[i]]&wide != 0 {
		return false
	}
	if i == 0 {
		return true
	}
	p := b[i-1]
	if class[p]&word != 0 || p == '_' {
		return class[p]&letter != 0 && escaped(b, i-1)
	}
	if i >= 3 && b[i-3] == 0xef {
		if _, size := digitAt(b, i-3); size == 3 {
			return false
		}
	}
	joined := p == '-' || p == '.'
	return !(joined && i > 1 && class[b[i-2]]&digit != 0)
}

// digitAt returns the digit at i and its size in bytes, 0 when there is none.
func digitAt(b []byte, i int) (d byte, size int) {
	switch {
	case i >= len(b):
		return 0, 0
	case class[b[i]]&digit != 0:
		return b[i] - '0', 1
	case i+2 < len(b) && b[i] == 0xef && b[i+1] == 0xbc && b[i+2] >= 0x90 && b[i+2] <= 0x99:
		return b[i+2] - 0x90, 3
	}
	return 0, 0
}

// read reads the number at i and reports whether the text ends too early to tell where it ends.
func (n *number) read(b []byte, i int, final bool) (open bool) {
	n.start = i
	switch b[i] {
	case '+':
		n.plus = true
		i++
	case '(':
		n.paren = true
		i++
	}
	var sep byte
	for n.n < maxDigits && !open {
		d, size := digitAt(b, i)
		if size == 0 {
			break
		}
		n.digits[n.n], n.sep[n.n], n.end[n.n] = d, sep, i+size
		n.n++
		sep, i, open = separator(b, i+size)
		open = open && !final
	}
	if open || i >= len(b) && !final {
		return true
	}
	n.spoil(b)
	return false
}

// spoil looks at what follows the last digit.
func (n *number) spoil(b []byte) {
	if n.n == 0 {
		return
	}
	after := n.end[n.n-1]
	_, size := digitAt(b, after)
	n.spoiled = size > 0 || n.n == maxDigits || after < len(b) && (class[b[after]]&letter != 0 || b[after] == '_')
}

// separators are what may stand between two digits, longest first, and what each counts as.
var separators = [...]struct {
	text string
	as   byte
}{
	{" - ", '~'}, {" (", '('}, {") ", ')'}, {")-", ')'}, {")", ')'}, {"(", '('},
	{"-", '-'}, {".", '.'}, {" ", ' '},
	{"\u2010", '-'}, {"\u2011", '-'}, {"\u2012", '-'}, {"\u2013", '-'}, {"\u2014", '-'}, {"\u2015", '-'},
	{"\uff0d", '-'}, {"%2D", '-'}, {"&#45;", '-'},
}

// separator returns what stands at i before the next digit, and where that is. Invisible characters are
// passed over. open says that the text ends where a longer separator might have gone on.
func separator(b []byte, i int) (as byte, next int, open bool) {
	i = visible(b, i)
	if i >= len(b) || class[b[i]]&digit != 0 {
		return 0, i, false
	}
	for _, s := range separators {
		ok, short := matchAt(b, i, s.text)
		open = open || short
		if ok {
			return s.as, visible(b, i+len(s.text)), open
		}
	}
	return 0, i, open
}

// visible passes over one zero-width space, joiner, mark or soft hyphen.
func visible(b []byte, i int) int {
	if i < len(b) && b[i] < 0x80 {
		return i
	}
	for _, s := range [...]string{"\u200b", "\u200c", "\u200d", "\ufeff", "\u00ad"} {
		if ok, _ := matchAt(b, i, s); ok {
			return i + len(s)
		}
	}
	return i
}

// shape returns the lengths of the groups that the first k digits are written in, one hexadecimal digit
// each: 0x344 for 010-1234-5678. A number in more than eight groups has shape 0.
func (n *number) shape(k int) (s uint32) {
	groups, size := 1, uint32(0)
	for i := 0; i < k; i++ {
		if i > 0 && n.sep[i] != 0 {
			s = s<<4 | min(size, 15)
			size = 0
			groups++
		}
		size++
	}
	if groups > 8 {
		return 0
	}
	return s<<4 | min(size, 15)
}

// uniform returns the separator between the groups of the digits [from, k); ok is false when there are
// two kinds.
func (n *number) uniform(from, k int) (sep byte, ok bool) {
	for i := from + 1; i < k; i++ {
		switch s := n.sep[i]; {
		case s == 0 || s == sep:
		case sep != 0:
			return 0, false
		default:
			sep = s
		}
	}
	return sep, true
}

// bounded reports whether the number may end after k digits.
func (n *number) bounded(k int) bool {
	if k < n.n {
		return n.sep[k] == ' ' || n.sep[k] == '(' || n.sep[k] == ')' || n.sep[k] == '~'
	}
	return k == n.n && !n.spoiled
}

// match says what the number is.
func (n *number) match(b []byte, want Set) Match {
	k, kind := n.registration(b)
	if kind == None || !want.Has(kind) {
		k, kind = n.phone(b), Phone
	}
	if k == 0 || !want.Has(kind) {
		k, kind = n.card(), Card
	}
	if k == 0 || !want.Has(kind) {
		return Match{}
	}
	return Match{Start: n.start, End: n.end[k-1], Kind: kind}
}
