package llm

func (p *parser) chatMember(key []byte) bool {
	switch string(key) {
	case "messages":
		p.messages()
	case "documents", "prediction": // vLLM renders documents into the prompt
		p.passages(Input)
	default:
		return false
	}
	return true
}

func (p *parser) messages() {
	a := p.elements("messages")
	for p.elem(&a) {
		p.message(a.n - 1)
	}
	if a.n == 0 {
		p.fail("", "must not be empty")
	}
	p.r.Turns = a.n
}

func (p *parser) message(index int) {
	first, role, given := len(p.r.Texts), NoRole, false
	o := p.members(messageNames)
	for p.next(&o) {
		switch string(o.key) {
		case "role":
			role, given = p.role(), true
		case "content":
			p.content(Content)
		case "reasoning", "reasoning_content":
			p.text(Reasoning, "a string")
		case "refusal":
			p.text(Refused, "a string")
		case "tool_calls":
			p.toolCalls()
		case "function_call":
			p.function(0)
		default:
			p.aside(o.key)
		}
	}
	if !given {
		p.fail("role", "is required")
	}
	p.assign(first, role, index)
}

// assign says who wrote the texts from index first on, and in which message. What stands beside them has
// no author.
func (p *parser) assign(first int, role Role, message int) {
	for i := first; i < len(p.r.Texts); i++ {
		p.r.Texts[i].Message = message
		if p.r.Texts[i].Channel != Aside {
			p.r.Texts[i].Role = role
		}
	}
}

// role takes a role; one the gateway does not know is NoRole.
func (p *parser) role() Role {
	if p.peek() != '"' {
		p.wrong("a string")
		return NoRole
	}
	switch p.label() {
	case "system":
		return System
	case "developer":
		return Developer
	case "user":
		return User
	case "assistant":
		return Assistant
	case "tool", "function":
		return Tool
	}
	return NoRole
}

// content takes a string, an array of parts or null.
func (p *parser) content(c Channel) {
	switch p.peek() {
	case '"', 'n':
		p.text(c, "a string")
	case '[':
		a := p.array()
		for p.elem(&a) {
			p.part(c)
		}
	default:
		p.wrong("a string or an array of parts")
	}
}

// part takes one part of a content: an object or, as vLLM allows, a plain string. What text it holds is
// read whatever its type says, so that an unknown type hides nothing.
func (p *parser) part(c Channel) {
	switch p.peek() {
	case '"':
		p.text(c, "a string")
		return
	case '{':
	default:
		p.wrong("an object")
		return
	}
	image := false
	o := p.object(partNames)
	for p.next(&o) {
		switch string(o.key) {
		case "type":
			image = p.imageType() || image
		case "text":
			p.text(c, "a string")
		case "refusal":
			p.text(Refused, "a string")
		case "thinking":
			p.text(Reasoning, "a string")
		case "image_url":
			image = image || p.peek() != 'n'
			p.skip()
		default:
			p.aside(o.key)
		}
	}
	if image {
		p.r.Images++
	}
}

func (p *parser) imageType() bool {
	if p.peek() != '"' {
		p.wrong("a string")
		return false
	}
	switch p.label() {
	case "image_url", "input_image", "image", "image_pil", "image_embeds":
		return true
	}
	return false
}

func (p *parser) toolCalls() {
	if p.null() {
		return
	}
	a := p.elements("tool calls")
	for p.elem(&a) {
		o := p.members(callNames)
		for p.next(&o) {
			switch string(o.key) {
			case "function", "custom":
				p.function(a.n - 1)
			default:
				p.aside(o.key)
			}
		}
	}
}

// function takes the function of a tool call, or a legacy function_call.
func (p *parser) function(tool int) {
	if p.null() {
		return
	}
	first := len(p.r.Texts)
	o := p.members(functionNames)
	for p.next(&o) {
		switch string(o.key) {
		case "arguments":
			p.text(ToolArguments, "a string that holds JSON")
		case "input": // of a custom tool: free text
			p.text(Content, "a string")
		case "name":
			p.skip()
		default:
			p.aside(o.key)
		}
	}
	for i := first; i < len(p.r.Texts); i++ {
		p.r.Texts[i].Tool = tool
	}
}

// tools takes the tools offered: {"type":"function","function":{"name":…}} in the chat API, {"type":
// "function","name":…} in the Responses API.
func (p *parser) tools() {
	if p.null() {
		return
	}
	a := p.elements("tools")
	for p.elem(&a) {
		o := p.members(toolNames)
		for p.next(&o) {
			switch string(o.key) {
			case "function", "custom":
				p.toolFunction()
			case "name":
				p.toolName()
			default:
				p.aside(o.key)
			}
		}
	}
}

// functions takes the chat API's legacy list of functions.
func (p *parser) functions() {
	if p.null() {
		return
	}
	a := p.elements("functions")
	for p.elem(&a) {
		p.toolFunction()
	}
}

func (p *parser) toolFunction() {
	o := p.members(functionNames)
	for p.next(&o) {
		if string(o.key) == "name" {
			p.toolName()
			continue
		}
		p.aside(o.key)
	}
}

func (p *parser) toolName() {
	if name := p.label(); name != "" {
		p.r.Tools = append(p.r.Tools, name)
	}
}
