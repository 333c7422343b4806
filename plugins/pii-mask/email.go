package main

// Bounds of an address, in bytes: RFC 5321 for what stands before the @, and a cap on what follows so
// that what is held back stays small.
const (
	maxLocal  = 64
	maxDomain = 100
)

// email decides whether an address starts in the run of local characters at i. end is where to look on
// when none does; open says that the text ends too early to tell.
func email(b []byte, i int, final bool) (m Match, end int, open bool) {
	start := localStart(b, i)
	j, digits := start, false
	for j < len(b) && class[b[j]]&local != 0 && j-start <= maxLocal {
		if b[j] == '%' && j > start {
			if sign, _ := matchAt(b, j, "%40"); sign {
				break
			}
		}
		digits = digits || class[b[j]]&digit != 0
		j++
	}
	size, short := atSign(b, j)
	if (short || j == len(b)) && j-start <= maxLocal && !final {
		return Match{}, i, true
	}
	if size == 0 || j == start || j-start > maxLocal || b[j-1] == '.' || inURL(b, i) {
		return Match{}, lookOn(i, j, digits), false
	}
	stop, open := domain(b, j+size, final)
	if open || stop == 0 {
		return Match{}, i, open
	}
	return Match{Start: start, End: stop, Kind: Email}, stop, false
}

// lookOn skips a run without digits: no number can start within it.
func lookOn(i, j int, digits bool) int {
	if digits {
		return i
	}
	return j
}

// localStart skips what cannot begin an address: the rest of an escape, and marks.
func localStart(b []byte, i int) int {
	if escaped(b, i) {
		if i+5 <= len(b) && b[i] == 'u' && hex(b[i+1:i+5]) {
			i += 4
		}
		i++
	}
	for i < len(b) && class[b[i]]&mark != 0 {
		i++
	}
	return min(i, len(b))
}

func hex(b []byte) bool {
	for _, c := range b {
		if class[c]&digit == 0 && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return true
}

// atSign returns the size of the @ at j, written plainly, as in a URL or as in HTML; 0: there is none.
// short says that the text ends before that can be told.
func atSign(b []byte, j int) (size int, short bool) {
	for _, s := range [...]string{"@", "%40", "&#64;"} {
		ok, open := matchAt(b, j, s)
		if ok {
			return len(s), false
		}
		short = short || open
	}
	return 0, short
}

// inURL reports whether the run at i is the user or password of a URL's authority.
func inURL(b []byte, i int) bool {
	for k := i - 1; k > 0 && i-k < look; k-- {
		switch c := b[k]; {
		case c == '/':
			return b[k-1] == '/'
		case c <= ' ' || c == '@' || c == '"' || c == '\'' || c >= 0x80:
			return false
		}
	}
	return false
}

// domain returns where the domain that starts at i ends, or 0 when it is none.
func domain(b []byte, i int, final bool) (end int, open bool) {
	label, dots := i, 0
	for j := i; ; j++ {
		if j-i > maxDomain {
			return 0, false
		}
		if j == len(b) && !final {
			return 0, true
		}
		if j < len(b) && (class[b[j]]&word != 0 || b[j] == '-') {
			continue
		}
		// A label has ended. Remember the longest name that ends in one fit for a top-level domain.
		if stop := trimHyphens(b, label, j); dots > 0 && topLevel(b[label:stop]) {
			end = stop
		}
		if j == len(b) || b[j] != '.' || j == label {
			return accept(b, i, end, final)
		}
		dots++
		label = j + 1
	}
}

func trimHyphens(b []byte, from, to int) int {
	for to > from && b[to-1] == '-' {
		to--
	}
	return to
}

// topLevel reports whether a label has the shape of a top-level domain.
func topLevel(s []byte) bool {
	if len(s) > 4 && string(s[:4]) == "xn--" {
		return true
	}
	if len(s) < 2 || len(s) > 24 {
		return false
	}
	for _, c := range s {
		if class[c]&letter == 0 {
			return false
		}
	}
	return !fileEnding(s)
}

// fileEnding tells logo@2x.png from an address.
func fileEnding(s []byte) bool {
	switch string(s) {
	case "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "bmp", "css", "js", "json":
		return true
	}
	return false
}

// accept refuses what follows like user@host:path, the way version control names a repository.
func accept(b []byte, start, end int, final bool) (int, bool) {
	if end == 0 || b[start] == '-' || b[start] == '.' {
		return 0, false
	}
	if end >= len(b) || b[end] != ':' {
		return end, false
	}
	if end+1 >= len(b) {
		if final {
			return end, false
		}
		return 0, true
	}
	if c := b[end+1]; class[c]&letter != 0 || c == '/' || c == '~' {
		return 0, false
	}
	return end, false
}
