package mock

// whole is the reply in one body.
func (v *chunks) whole() []byte {
	b := make([]byte, 0, 1024)
	b = append(b, v.top...)
	for c := range v.p.choices {
		if c > 0 {
			b = append(b, ',')
		}
		b = append(b, v.heads[c][len(v.top):]...)
		b = v.appendChoice(b, &v.p.choices[c])
		v.said += len(v.p.choices[c].ids)
	}
	b = append(b, ']')
	if !v.x.script.fault.has(noUsage) {
		b = v.appendUsage(append(b, ','))
	}
	if v.p.prompt != nil {
		b = appendIDs(append(b, `,"prompt_token_ids":`...), v.p.prompt)
	}
	return append(b, '}')
}

func (v *chunks) appendChoice(b []byte, c *choice) []byte {
	if v.text {
		b = append(append(append(b, `"text":"`...), c.texts(0, len(c.ids))...), '"')
	} else {
		b = v.appendMessage(b, c)
	}
	b = append(b, `,"logprobs":null,"finish_reason":"`+v.x.endOf(c)+`",`...)
	b = v.appendStop(b, c)
	if v.x.req.ReturnTokenIDs {
		b = appendIDs(append(b, `,"token_ids":`...), c.ids)
	}
	return append(b, '}')
}

// endOf is the finish_reason of a choice in a whole reply.
func (x *exchange) endOf(c *choice) string {
	if x.script.fault.cut == cutAbort {
		return "abort"
	}
	return x.reason(c)
}

// texts are the pieces from one id to another, JSON-escaped.
func (c *choice) texts(from, to int) []byte {
	var b []byte
	for i := from; i < to; i++ {
		b = append(b, c.piece(i)...)
	}
	return b
}

func (v *chunks) appendMessage(b []byte, c *choice) []byte {
	b = append(b, `"message":{"role":"assistant",`...)
	if c.thoughts > 0 {
		b = append(append(append(b, `"`+v.reasoning()+`":"`...), c.texts(0, c.thoughts)...), `",`...)
	}
	if c.call == nil {
		b = append(append(b, `"content":"`...), c.texts(c.thoughts, len(c.ids))...)
		return append(b, `"}`...)
	}
	b = append(b, `"content":null,"tool_calls":[{"id":"`+escape(c.call.id)+`","type":"function","function":{"name":"`+c.call.name+`","arguments":"`+c.call.open...)
	return append(appendTexts(b, c, 0, len(c.ids), escapedTwice), `\"}"}}]}`...)
}
