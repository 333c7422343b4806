package policy

import (
	"bytes"
	"strings"
	"unicode"

	"github.com/nexus-gateway/nexus/core/llm"
)

// prompt is what policies may know of a request's texts; each answer is computed when it is asked for.
type prompt struct {
	request *llm.Request
	last    string
	cut     bool
	read    bool // last and cut are known
}

const (
	maxLastUser   = 8 << 10 // bytes
	tokensPerTurn = 4       // what chat templates put round a message
)

// tokens estimates the prompt's tokens with the estimate that quota uses, and adds the frame of each
// message.
func (p *prompt) tokens() int64 {
	n := int64(p.request.Turns) * tokensPerTurn
	for _, t := range p.request.Texts {
		n += llm.EstimateTokens(p.request.Body[t.At.Start:t.At.End])
	}
	return n
}

func (p *prompt) lastUser() string {
	p.find()
	return p.last
}

func (p *prompt) truncated() bool {
	p.find()
	return p.cut
}

// find reads the last text of the user: in a chat the last part that the role user wrote, elsewhere the
// last prompt or input.
func (p *prompt) find() {
	if p.read {
		return
	}
	p.read = true
	for i := len(p.request.Texts) - 1; i >= 0; i-- {
		t := p.request.Texts[i]
		if t.Role != llm.User && (t.Role != llm.NoRole || t.Channel != llm.Prompt && t.Channel != llm.Input) {
			continue
		}
		// A decoded byte takes at most six raw ones, so that no more is ever decoded than may be kept.
		whole := t.At
		if t.At.Len() > 6*maxLastUser {
			t.At.End = t.At.Start + endOfEscape(p.request.Body[t.At.Start:t.At.End], 6*maxLastUser)
		}
		decoded := string(llm.AppendText(nil, p.request.Body, t))
		p.last = cut(decoded, maxLastUser)
		p.cut = len(p.last) < len(decoded) || t.At != whole
		return
	}
}

// endOfEscape is the last place at or before limit where raw may be cut: not inside an escape, not
// inside a character.
func endOfEscape(raw []byte, limit int) int {
	i := 0
	for i < limit {
		size := 1
		switch {
		case raw[i] == '\\' && i+1 < len(raw) && raw[i+1] == 'u':
			size = 6
		case raw[i] == '\\':
			size = 2
		case raw[i] >= 0xF0:
			size = 4
		case raw[i] >= 0xE0:
			size = 3
		case raw[i] >= 0xC0:
			size = 2
		}
		if i+size > limit {
			break
		}
		i += size
	}
	return i
}

// codeMarks are signs of program text: rough, but cheap.
var codeMarks = [][]byte{
	[]byte("```"), []byte("#include <"), []byte("\nimport "), []byte("\nfunc "), []byte("\ndef "), []byte("\nclass "),
	[]byte("public static "), []byte("</div>"), []byte("=> {"), []byte("();"), []byte("SELECT * "),
}

func (p *prompt) hasCode() bool {
	var scratch []byte
	for _, t := range p.request.Texts {
		scratch = llm.AppendText(scratch[:0], p.request.Body, t)
		for _, mark := range codeMarks {
			if bytes.Contains(scratch, mark) {
				return true
			}
		}
	}
	return false
}

// found returns those of words, which are in lower case, that occur in any text. Every text is read
// whole: a word must not escape by standing late.
func (p *prompt) found(words []string) []string {
	if len(words) == 0 {
		return nil
	}
	var scratch []byte
	hit := make([]bool, len(words))
	for _, t := range p.request.Texts {
		scratch = llm.AppendText(scratch[:0], p.request.Body, t)
		lower(scratch)
		for i, word := range words {
			hit[i] = hit[i] || bytes.Contains(scratch, []byte(word))
		}
	}
	var list []string
	for i, word := range words {
		if hit[i] {
			list = append(list, word)
		}
	}
	return list
}

func lower(b []byte) {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}

// lowerASCII is what the texts are compared with: other scripts keep their case.
func lowerASCII(s string) string {
	b := []byte(s)
	lower(b)
	return string(b)
}

// scripts gives the language that a script stands for. Latin counts as English: a policy that must tell
// French from English needs a plugin that does.
var scripts = []struct {
	lang   string
	table  *unicode.RangeTable
	weight int // how much a letter says, in Latin letters
}{
	{"ja", unicode.Hiragana, 3}, {"ja", unicode.Katakana, 3}, {"ko", unicode.Hangul, 3}, {"zh", unicode.Han, 3},
	{"ru", unicode.Cyrillic, 1}, {"ar", unicode.Arabic, 1}, {"hi", unicode.Devanagari, 1}, {"th", unicode.Thai, 1},
}

// language guesses the language of s by its letters; empty when there are none.
func language(s string) string {
	var counts [8]int
	latin, kana, han := 0, 0, 0
	for _, r := range s {
		if r < 0x80 {
			if r|0x20 >= 'a' && r|0x20 <= 'z' {
				latin++
			}
			continue
		}
		for i := range scripts {
			if unicode.Is(scripts[i].table, r) {
				counts[i] += scripts[i].weight
				break
			}
		}
	}
	kana, han = counts[0]+counts[1], counts[3]
	if kana > 0 { // Japanese writes Han letters too
		counts[0], counts[1], counts[3] = kana+han, 0, 0
	}
	best, most := "", latin
	if latin > 0 {
		best = "en"
	}
	for i, n := range counts {
		if n > most {
			best, most = scripts[i].lang, n
		}
	}
	return best
}

// quote writes s for a message, shortened and on one line.
func quote(s string) string {
	return `"` + strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, cut(s, 80)) + `"`
}
