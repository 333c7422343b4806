package llm

import "strings"

// An answer is what is known of one payload of the Responses API while it is read: of an event that
// carries a response, or of the response itself.
type answer struct {
	cut    cut
	status string
	reason string // why it is incomplete
	index  int    // output_index, if placed
	part   int    // content_index or summary_index, if parted
	placed bool
	parted bool
}

// responses reads an event of the Responses API, or a whole response.
func (x *viewer) responses() {
	var a answer
	from := x.i
	o := x.object(nil)
	for x.next(&o) {
		a.cut.before(x, &o)
		if !x.event || !x.eventMember(&a, o.key) {
			x.answerMember(&a, &o)
		}
		if !a.cut.open {
			a.cut.prev = x.i
		}
	}
	a.cut.shut(x)
	x.finishAnswer(&a)
	x.place(&a)
	if x.v.Type == "error" && !x.v.Error {
		x.v.Error, x.v.ErrorAt = true, Span{from, x.i}
	}
}

// eventMember takes a member that only events have.
func (x *viewer) eventMember(a *answer, key []byte) bool {
	switch string(key) {
	case "type":
		x.v.Type = x.name()
	case "delta":
		x.text(Content, false)
	case "text", "input", "code", "transcript":
		x.text(Content, true)
	case "refusal":
		x.text(Refused, true)
	case "arguments":
		x.text(ToolArguments, true)
	case "part":
		x.part(Content, true)
	case "item":
		x.outputItem()
	case "response":
		x.answer()
	case "output_index":
		a.index, a.placed = x.count(), true
	case "content_index", "summary_index":
		a.part, a.parted = x.count(), true
	default:
		return false
	}
	return true
}

// answer reads the response that an event carries.
func (x *viewer) answer() {
	var a answer
	o := x.members()
	for x.next(&o) {
		a.cut.before(x, &o)
		x.answerMember(&a, &o)
		if !a.cut.open {
			a.cut.prev = x.i
		}
	}
	a.cut.shut(x)
	x.finishAnswer(&a)
}

func (x *viewer) answerMember(a *answer, o *object) {
	switch string(o.key) {
	case "model":
		x.v.Model = x.name()
	case "usage":
		a.cut.take(x, o)
	case "error":
		x.failure()
	case "status":
		a.status = x.name()
	case "incomplete_details":
		a.reason = x.incomplete()
	case "output":
		x.output()
	default:
		x.skip()
	}
}

func (x *viewer) incomplete() (reason string) {
	o := x.members()
	for x.next(&o) {
		if string(o.key) == "reason" {
			reason = x.name()
			continue
		}
		x.skip()
	}
	return reason
}

func (x *viewer) output() {
	a := x.elements()
	for x.elem(&a) {
		first := len(x.v.Texts)
		x.outputItem()
		for i := first; i < len(x.v.Texts); i++ {
			x.v.Texts[i].Choice = a.n - 1
		}
	}
}

// outputItem reads a message, a tool call or reasoning.
func (x *viewer) outputItem() {
	first, thought := len(x.v.Texts), false
	o := x.members()
	for x.next(&o) {
		switch string(o.key) {
		case "type":
			thought = x.name() == "reasoning"
		case "content":
			x.content(Content, true)
		case "summary":
			x.content(Reasoning, true)
		case "arguments":
			x.text(ToolArguments, true)
		case "input", "code", "error":
			x.text(Content, true)
		case "output", "outputs", "results": // of the backend's own tools
			x.toolOutput()
		default:
			x.skip()
		}
	}
	for i := first; thought && i < len(x.v.Texts); i++ {
		x.v.Texts[i].Channel = Reasoning
	}
}

// toolOutput reads what a tool that the backend ran itself gave back: a string, or objects that hold some.
func (x *viewer) toolOutput() {
	if x.peek() != '[' {
		x.text(Content, true)
		return
	}
	a := x.array()
	for x.elem(&a) {
		o := x.members()
		for x.next(&o) {
			switch string(o.key) {
			case "text", "logs", "stdout", "stderr":
				x.text(Content, true)
			default:
				x.skip()
			}
		}
	}
}

// finishAnswer puts the end of a response in the words of the chat API.
func (x *viewer) finishAnswer(a *answer) {
	reason := ""
	switch a.status {
	case "completed":
		reason = "stop"
	case "incomplete":
		if reason = a.reason; reason == "max_output_tokens" || reason == "" {
			reason = "length"
		}
	case "failed":
		reason = "error"
	case "cancelled":
		reason = "abort"
	default:
		return
	}
	x.v.Finishes = append(x.v.Finishes, Finish{Reason: reason})
}

// place gives an event's texts the indices and the channel that the event names, wherever in it.
func (x *viewer) place(a *answer) {
	texts := x.v.Texts
	channel := typeChannel(x.v.Type)
	for i := range texts {
		if a.placed {
			texts[i].Choice = a.index
		}
		if a.parted {
			texts[i].Tool = a.part
		}
		if texts[i].Channel == Content {
			texts[i].Channel = channel
		}
	}
	if strings.HasSuffix(x.v.Type, "audio.delta") { // base64
		x.v.Texts = texts[:0]
	}
}

// typeChannel is the channel that the text of an event of the given type belongs to.
func typeChannel(kind string) Channel {
	switch {
	case strings.Contains(kind, "reasoning"):
		return Reasoning
	case strings.Contains(kind, "refusal"):
		return Refused
	case strings.Contains(kind, "call_arguments"):
		return ToolArguments
	}
	return Content
}
