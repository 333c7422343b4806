package main

// A Kind is what a match is. The numbers are places in the manifest's list of kinds.
type Kind uint8

const (
	None Kind = iota
	Email
	Phone
	RRN
	FRN
	Card
	kinds // how many there are
)

var names = [kinds]string{"", "EMAIL", "PHONE", "KR_RRN", "KR_FRN", "CREDIT_CARD"}

// A Set is a set of kinds to look for.
type Set uint16

// All is every kind there is.
const All Set = 1<<kinds - 2

// Has reports whether k is in s.
func (s Set) Has(k Kind) bool { return s>>k&1 != 0 }

// A Match is the bytes [Start, End) of a text that are of the kind.
type Match struct {
	Start, End int
	Kind       Kind
}

// Next returns the first match at or after from. When there is none, Kind is None and Start is where
// what is still undecided begins: a match could start there if more text came. It is len(b) when nothing
// is open, and always when final is set.
//
// Whether a match starts at a byte depends on at most look bytes before it and on what follows, never on
// where scanning began: that is what makes the result the same wherever a stream is cut.
func Next(b []byte, from int, final bool, want Set) Match {
	sign := -1
	for i := from; i < len(b); {
		if sign < i {
			sign = nextSign(b, i)
			i = max(i, sign-reach)
			if sign == len(b) {
				t := tail(b, final)
				if i <= t && t < len(b) && class[b[t]]&local != 0 && len(b)-localStart(b, t) <= maxLocal {
					return Match{Start: t} // an @ may follow
				}
				i = max(i, t)
			}
		}
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

// reach is how far before a sign a match may start: an address's local part and the escape before it.
const reach = 96

// tail returns where a match may yet begin in a text that has no sign before its end: at the run of local characters
// that it ends in, or at an opener of a number that a digit must follow at once.
func tail(b []byte, final bool) int {
	at := len(b)
	if final || at == 0 {
		return at
	}
	for at > 0 && class[b[at-1]]&local != 0 {
		at--
	}
	if at == len(b) && class[b[at-1]]&opener != 0 {
		at--
	}
	return at
}

// pass goes on to where something may start. Most text is words without digits and without an @ behind
// them, so these are passed over here, in one loop: calls are what costs in Wasm.
func pass(b []byte, i int) int {
	before := byte(0)
	if i > 0 {
		before = class[b[i-1]]
	}
	for i < len(b) {
		c := class[b[i]]
		switch {
		case c == 0 || before&local != 0 && c&numeric == 0:
			i++
			before = c
			continue
		case c&local == 0 || before&local != 0:
			return i
		}
		j, seen := i, byte(0)
		for j < len(b) && class[b[j]]&local != 0 {
			seen |= class[b[j]]
			j++
		}
		if j == len(b) || seen&(digit|percent) != 0 || b[j] == '@' || b[j] == '&' {
			return i
		}
		i, before = j, seen
	}
	return i
}

// look is how far back a decision looks, in bytes; the manifest's context is no less.
const look = 64

// at decides what starts at i, where something may. Either a match starts there, or next says where to
// look on; next == i says that it is open, with the match's Start at i.
func at(b []byte, i int, final bool, want Set) (m Match, next int) {
	next = i + 1
	if class[b[i]]&local != 0 && !runsInto(b, i) {
		m, end, open := email(b, i, final)
		switch {
		case open:
			return Match{Start: i}, i
		case m.Kind != None && want.Has(Email):
			return m, m.End
		}
		next = max(next, end)
	}
	if class[b[i]]&numeric == 0 || !startsNumber(b, i) {
		return Match{}, next
	}
	var n number
	if n.read(b, i, final) {
		return Match{Start: i}, i
	}
	if m := n.match(b, want); m.Kind != None {
		return m, m.End
	}
	return Match{}, next
}

// Classes of bytes. A byte of class 0 can start nothing and is passed over.
const (
	digit   = 1 << iota // 0-9
	letter              // A-Z a-z
	mark                // ._%+- inside a mail address
	opener              // + and ( before a number
	wide                // first byte of a full-width digit
	percent             // begins an escape that may stand for @
	local   = digit | letter | mark
	word    = digit | letter
	numeric = digit | opener | wide
)

var class = classes()

func classes() (t [256]uint8) {
	for c := '0'; c <= '9'; c++ {
		t[c] |= digit
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c] |= letter
		t[c-'a'+'A'] |= letter
	}
	for _, c := range "._%+-" {
		t[c] |= mark
	}
	t['%'] |= percent
	t['+'] |= opener
	t['('] |= opener
	t[0xef] |= wide
	return t
}

// runsInto reports whether the byte at i goes on a run that began before it.
func runsInto(b []byte, i int) bool { return i > 0 && class[b[i-1]]&local != 0 }

// escaped reports whether the byte at i is escaped by a backslash, as in JSON text and source code, so
// that "\nkim@example.com" is a line break and then an address.
func escaped(b []byte, i int) bool {
	n := 0
	for n < look/4 && i-n > 0 && b[i-n-1] == '\\' {
		n++
	}
	return n%2 == 1
}

// matchAt reports whether s stands at i of b; open says that b ends before that can be told.
func matchAt(b []byte, i int, s string) (ok, open bool) {
	for k := 0; k < len(s); k++ {
		if i+k >= len(b) {
			return false, true
		}
		if b[i+k] != s[k] {
			return false, false
		}
	}
	return true, false
}
