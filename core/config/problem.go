package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/setting"
)

// maxProblems bounds what one bad file can fill a log with.
const maxProblems = 100

// A Problem is one thing wrong with a file, and where.
type Problem struct {
	File   string
	Line   int // from 1; 0: at no line, as with a missing section
	Column int
	Path   string // "backends.gpu-1.url"; empty: the file as a whole
	Text   string
}

// String writes the problem as compilers do, so that editors can jump to it.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Line > 0 && p.Column > 0 {
		fmt.Fprintf(&b, ":%d", p.Column)
	}
	if p.Path != "" {
		b.WriteString(": " + p.Path)
	}
	return b.String() + ": " + p.Text
}

// An Error is all that is wrong with a file, in the order of its lines.
type Error struct{ Problems []Problem }

// Error writes one problem a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// asError sorts problems, drops repeats and bounds them; no problems are no error.
func asError(file string, problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Text, b.Text))
	})
	problems = slices.Compact(problems)
	if rest := len(problems) - maxProblems; rest > 0 {
		problems = append(problems[:maxProblems:maxProblems], Problem{File: file, Text: fmt.Sprintf("and %d more problems", rest)})
	}
	return &Error{problems}
}

// A position is where a setting stands in its file.
type position struct{ line, column int }

// A Source remembers where each setting of a file stood, for those who find fault with a setting only
// when they use it: a policy that does not compile, a plugin that is not Wasm.
type Source struct {
	name  string
	at    map[string]position
	files []string
	shown map[string]string // text that came from outside the file → how the file writes it
}

// Name returns the file's name as it was given.
func (s *Source) Name() string { return s.name }

// Files returns the secret files that were read, whose change is a change of the configuration.
func (s *Source) Files() []string { return slices.Clone(s.files) }

// Line returns the line that path stands at, or else that of the nearest section around it; 0: none is known.
func (s *Source) Line(path string) int { return s.find(path).line }

// Lines is Decode for those who later say themselves at which line something stands.
func Lines(name string, data []byte, into any) (line func(path string) int, err error) {
	s, err := Decode(name, data, into)
	return s.Line, err
}

// Locate returns an *Error that says file, line and column of each problem; nil when there is none.
func (s *Source) Locate(p setting.Problems) error {
	located := make([]Problem, 0, len(p.All()))
	for _, one := range p.All() {
		located = append(located, s.problem(s.find(one.Path), one.Path, one.Text))
	}
	return asError(s.name, located)
}

func (s *Source) problem(at position, path, text string) Problem {
	return Problem{File: s.name, Line: at.line, Column: at.column, Path: path, Text: s.scrub(text)}
}

// find returns where path stands, or else the nearest section around it that the file has.
func (s *Source) find(path string) position {
	for {
		if at, ok := s.at[path]; ok {
			return at
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return position{}
		}
		path = path[:cut]
	}
}

// scrub puts "${NAME}" back where a value of the environment would be shown: such a value may be a
// secret that stands in the wrong place, and problems go to logs.
func (s *Source) scrub(text string) string {
	for value, written := range s.shown {
		text = strings.ReplaceAll(text, value, written)
		quoted := fmt.Sprintf("%q", value)
		text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], written)
	}
	return text
}
