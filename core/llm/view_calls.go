package llm

func (x *viewer) toolCalls(whole bool) {
	x.peek()
	first, list := len(x.v.Calls), Span{Start: x.i}
	a := x.elements()
	for x.elem(&a) {
		x.toolCall(a.n-1, whole)
	}
	list.End = x.i
	for i := first; i < len(x.v.Calls); i++ {
		x.v.Calls[i].List = list
	}
}

// toolCall reads one element of tool_calls.
func (x *viewer) toolCall(index int, whole bool) {
	x.peek()
	first, c := len(x.v.Texts), ToolCall{At: Span{Start: x.i}}
	o := x.members()
	for x.next(&o) {
		switch string(o.key) {
		case "index":
			index = x.count()
		case "id":
			c.note(&c.ID, x.string())
		case "custom":
			c.Custom = true
			x.function(&c, whole)
		case "function":
			x.function(&c, whole)
		default:
			x.skip()
		}
	}
	x.tool(first, index)
	c.Index, c.At.End = index, x.i
	x.call(c)
}

// legacyCall reads the one call that a message could make before there were tools.
func (x *viewer) legacyCall(whole bool) {
	if x.peek() != '{' {
		x.skip()
		return
	}
	c := ToolCall{At: Span{Start: x.i}, Legacy: true}
	x.function(&c, whole)
	c.At.End = x.i
	c.List = c.At
	x.call(c)
}

func (x *viewer) call(c ToolCall) {
	if len(x.v.Calls) >= maxTexts {
		x.fail("", "holds too many tool calls")
	}
	if x.err == nil {
		x.v.Calls = append(x.v.Calls, c)
	}
}

func (x *viewer) function(c *ToolCall, whole bool) {
	o := x.members()
	for x.next(&o) {
		switch string(o.key) {
		case "name":
			c.note(&c.Name, x.string())
		case "arguments":
			c.note(&c.Arguments, x.argument(c, ToolArguments, whole))
		case "input":
			c.note(&c.Arguments, x.argument(c, Content, whole))
		default:
			x.skip()
		}
	}
}

// note notes where a member stands.
func (c *ToolCall) note(member *Span, at Span) {
	if at.Start == 0 {
		return
	}
	c.Odd = c.Odd || member.Start != 0
	*member = at
}

// argument is words of a call's arguments, which must be a string or nothing.
func (x *viewer) argument(call *ToolCall, c Channel, whole bool) Span {
	if b := x.peek(); b != '"' && b != 'n' {
		call.Odd = true
	}
	return x.words(c, whole)
}

// words notes the string at hand as a text and returns where it stands.
func (x *viewer) words(c Channel, whole bool) Span {
	first := len(x.v.Texts)
	x.text(c, whole)
	if len(x.v.Texts) == first {
		return Span{}
	}
	return x.v.Texts[first].At
}

// string takes the string at hand and returns where it stands; anything else is skipped.
func (x *viewer) string() Span {
	if x.peek() != '"' {
		x.skip()
		return Span{}
	}
	at, _ := x.str()
	return at
}
