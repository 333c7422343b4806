package main

// A State says what the beginning of a text is.
type State uint8

const (
	Nothing   State = iota // not a command
	Open                   // the text ends too early to tell
	Malformed              // a command that names no model
	Complete               // a command
)

// A Command is what the first line of a text asks for.
type Command struct {
	Provider, Model []byte
	End             int // of the line, its break included
}

// Bounds of a command, in bytes.
const (
	maxLine = 512 // of the whole line
	maxName = 200 // of a name: models carry paths
)

const word = "/model"

// Read reads "/model provider,model" or "/model model" from the first line of b. What follows /model other than white
// space makes it another word, such as /models. A line that is a command and names no model, or more, is malformed.
func Read(b []byte, final bool) (Command, State) {
	for i := 0; i < len(word); i++ {
		if i == len(b) {
			return Command{}, unless(final, Nothing)
		}
		if b[i] != word[i] {
			return Command{}, Nothing
		}
	}
	i := len(word)
	if i == len(b) {
		return Command{}, unless(final, Malformed)
	}
	if b[i] != ' ' && b[i] != '\t' && b[i] != '\n' && b[i] != '\r' {
		return Command{}, Nothing
	}
	for i < len(b) && b[i] != '\n' {
		i++
	}
	if i > maxLine {
		return Command{}, Malformed
	}
	if i == len(b) && !final {
		return Command{}, Open
	}
	c := Command{End: min(i+1, len(b))}
	return c.names(trim(b[len(word):i]))
}

func unless(final bool, s State) State {
	if final {
		return s
	}
	return Open
}

// names reads what follows the word.
func (c Command) names(b []byte) (Command, State) {
	for i, v := range b {
		if v == ',' {
			c.Provider, b = trim(b[:i]), trim(b[i+1:])
			if !name(c.Provider) {
				return c, Malformed
			}
			break
		}
	}
	if !name(b) {
		return c, Malformed
	}
	c.Model = b
	return c, Complete
}

func trim(b []byte) []byte {
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && blank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

// name reports whether b may be the name of a model or a provider: printable ASCII in one piece, as in
// mistralai/Mixtral-8x7B:free.
func name(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' || c == ',' || c == '"' || c == '\\' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= maxName
}

// Match reports whether a name fits a pattern, in which * stands for any characters.
func Match(pattern string, name []byte) bool {
	p, n, star, back := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, back = p, n
			p++
		case p < len(pattern) && pattern[p] == name[n]:
			p++
			n++
		case star >= 0:
			back++
			p, n = star+1, back
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
