package llm

func (p *parser) responsesMember(key []byte) bool {
	switch string(key) {
	case "input":
		p.items()
	case "instructions":
		first := len(p.r.Texts)
		p.text(Input, "a string")
		p.assign(first, System, 0)
	default:
		return false
	}
	return true
}

// items takes the Responses API's input: a string or an array of items.
func (p *parser) items() {
	first := len(p.r.Texts)
	switch p.peek() {
	case '"':
		p.text(Input, "a string")
		p.assign(first, User, 0)
		p.r.Turns = 1
		return
	case '[':
	default:
		p.wrong("a string or an array of items")
		return
	}
	a := p.array()
	for p.elem(&a) {
		p.item(a.n - 1)
	}
	if a.n == 0 {
		p.fail("", "must not be empty")
	}
	p.r.Turns = a.n
}

// item takes a message, a tool's call or output, or reasoning; an unknown one passes.
func (p *parser) item(index int) {
	first, role, kind := len(p.r.Texts), NoRole, ""
	o := p.members(itemNames)
	for p.next(&o) {
		switch string(o.key) {
		case "type":
			kind = p.label()
		case "role":
			role = p.role()
		case "content":
			p.content(Input)
		case "output":
			p.output()
		case "summary":
			p.content(Reasoning)
		case "arguments":
			p.text(ToolArguments, "a string that holds JSON")
		case "input":
			p.freeText(Input)
		case "name":
			p.skip()
		default:
			p.aside(o.key)
		}
	}
	p.assign(first, itemRole(kind, role), index)
}

// output takes a tool's output: a string, an array of parts, or what a built-in tool of the backend left.
func (p *parser) output() {
	if c := p.peek(); c == '"' || c == 'n' || c == '[' {
		p.content(Input)
		return
	}
	p.beside()
}

// freeText takes a string as text, anything else as what stands beside it.
func (p *parser) freeText(c Channel) {
	if p.peek() == '"' {
		p.text(c, "a string")
		return
	}
	p.beside()
}

// itemRole is who wrote an item of the given type.
func itemRole(kind string, role Role) Role {
	switch kind {
	case "function_call_output", "custom_tool_call_output", "computer_call_output", "local_shell_call_output":
		return Tool
	case "function_call", "custom_tool_call", "reasoning", "mcp_call":
		return Assistant
	}
	return role
}
