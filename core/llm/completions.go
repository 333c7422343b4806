package llm

func (p *parser) completionsMember(key []byte) bool {
	switch string(key) {
	case "prompt":
		p.prompts(Prompt)
	case "suffix":
		p.text(Prompt, "a string")
	default:
		return false
	}
	return true
}

// prompts takes a string or an array of strings; of token ids it notes only that there are some.
func (p *parser) prompts(c Channel) {
	switch p.peek() {
	case '"', 'n':
		p.text(c, "a string")
		return
	case '[':
	default:
		p.wrong("a string or an array of strings")
		return
	}
	a := p.array()
	for p.elem(&a) {
		switch ch := p.peek(); {
		case ch == '"':
			p.text(c, "a string")
		case ch == '[':
			p.tokens()
		case ch == '-' || ch-'0' <= 9:
			p.number()
			p.r.TokenPrompt = true
		default:
			p.wrong("a string")
		}
	}
	if a.n == 0 {
		p.fail("", "must not be empty")
	}
}

// tokens takes an array of token ids.
func (p *parser) tokens() {
	p.r.TokenPrompt = true
	a := p.array()
	for p.elem(&a) {
		if c := p.peek(); c != '-' && c-'0' > 9 {
			p.wrong("a token id")
			continue
		}
		p.number()
	}
}
