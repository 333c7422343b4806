package llm

// The embeddings, rerank, score and tokenize APIs: texts in, numbers out.

func (p *parser) embeddingsMember(key []byte) bool {
	switch string(key) {
	case "input":
		p.prompts(Input)
	case "messages":
		p.messages()
	default:
		return false
	}
	return true
}

func (p *parser) tokenizeMember(key []byte) bool {
	switch string(key) {
	case "prompt":
		p.prompts(Prompt)
	case "messages":
		p.messages()
	default:
		return false
	}
	return true
}

func (p *parser) rankMember(key []byte) bool {
	switch string(key) {
	case "query", "queries", "text_1", "data_1":
		p.passages(Prompt)
	case "documents", "items", "text_2", "data_2":
		p.passages(Input)
	default:
		return false
	}
	return true
}

// passages takes a text, an array of texts, or an object that holds text; a text is a string, an object
// with text, title or content, or an array of token ids.
func (p *parser) passages(c Channel) {
	switch ch := p.peek(); {
	case ch == '"' || ch == 'n':
		p.text(c, "a string")
	case ch == '[':
		a := p.array()
		for p.elem(&a) {
			p.passages(c)
		}
	case ch == '{':
		p.passage(c)
	case ch == '-' || ch-'0' <= 9:
		p.number()
		p.r.TokenPrompt = true
	default:
		p.wrong("a string, or an array of strings or objects with text")
	}
}

func (p *parser) passage(c Channel) {
	o := p.object(documentNames)
	for p.next(&o) {
		switch string(o.key) {
		case "text", "title":
			p.text(c, "a string")
		case "content":
			p.content(c)
		default:
			p.aside(o.key)
		}
	}
}
