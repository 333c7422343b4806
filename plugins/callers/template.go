package callers

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// A Template is a text with holes that are filled for each call.
type Template []part

type part struct{ text, hole string } // one of the two

// maxHoles keeps what a template grows to within bounds.
const maxHoles = 64

// ParseTemplate reads a text with holes such as {tenant}. A brace that begins no word stands for itself.
func ParseTemplate(text string, holes ...string) (Template, error) {
	var t Template
	from, count := 0, 0
	for i := 0; i < len(text); i++ {
		end := wordEnd(text, i)
		if end == 0 {
			continue
		}
		hole := text[i+1 : end-1]
		if !isOneOf(holes, hole) {
			return nil, nexus.Error("{" + hole + "} is nothing that can be filled in: write" + listed(holes))
		}
		if count++; count > maxHoles {
			return nil, nexus.Error("there are more than 64 holes to fill in")
		}
		if i > from {
			t = append(t, part{text: text[from:i]})
		}
		t = append(t, part{hole: hole})
		from, i = end, end-1
	}
	if from < len(text) {
		t = append(t, part{text: text[from:]})
	}
	return t, nil
}

// wordEnd is where {word} ends that begins at i; 0: none does.
func wordEnd(text string, i int) int {
	if text[i] != '{' {
		return 0
	}
	for k := i + 1; k < len(text); k++ {
		switch c := text[k]; {
		case c == '}' && k > i+1:
			return k + 1
		case c != '_' && (c < 'a' || c > 'z'):
			return 0
		}
	}
	return 0
}

func isOneOf(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func listed(holes []string) (s string) {
	for _, h := range holes {
		s += " {" + h + "}"
	}
	return s
}

// Append appends the text with its holes filled by value.
func (t Template) Append(b []byte, value func(b []byte, hole string) []byte) []byte {
	for i := range t {
		if t[i].hole != "" {
			b = value(b, t[i].hole)
			continue
		}
		b = append(b, t[i].text...)
	}
	return b
}

// AppendName appends at most most bytes of a name that a caller wrote, such as a model's, with _ for all that such names
// are not made of.
func AppendName(b, name []byte, most int) []byte {
	for _, c := range name[:min(len(name), most)] {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == ':', c == '/', c == '@', c == '+':
			b = append(b, c)
		default:
			b = append(b, '_')
		}
	}
	return b
}
