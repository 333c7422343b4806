package llm

// A viewer reads one payload into a View. Its scanner is not strict: a reply may repeat keys, and every
// repeat is seen.
type viewer struct {
	scanner
	v     *View
	event bool
}

// Scan reads the payload of one chunk (event: true for SSE, false for a whole body) into v. It checks
// that all of payload is JSON and is lenient about everything else; an error leaves v of no use.
func (v *View) Scan(e Endpoint, event bool, payload []byte) error {
	*v = View{Texts: v.Texts[:0], Finishes: v.Finishes[:0], Calls: v.Calls[:0], Choices: -1}
	x := viewer{scanner: scanner{b: payload}, v: v, event: event}
	switch {
	case x.peek() != '{':
		x.skip()
	case e == Responses:
		x.responses()
	default:
		x.chat()
	}
	x.end()
	if x.err != nil {
		x.err.Reason = "the payload " + x.err.Reason
		return x.err
	}
	return nil
}

// members enters the object at hand; anything else is skipped and has no members.
func (x *viewer) members() object {
	if x.peek() != '{' {
		x.skip()
		return object{none: true}
	}
	return x.object(nil)
}

// elements enters the array at hand; anything else is skipped and has no elements.
func (x *viewer) elements() array {
	if x.peek() != '[' {
		x.skip()
		return array{none: true}
	}
	return x.array()
}

// A cut remembers where the member `usage` stands until it is known which comma goes with it.
type cut struct {
	prev, key, end int // ends of the member before and of the member itself; start of its key
	open           bool
}

// before is called at every key; it closes a cut that began with the member before.
func (c *cut) before(x *viewer, o *object) {
	if c.open {
		x.v.UsageAt, c.open = Span{c.key, o.at.Start - 1}, false
	}
}

// take reads the usage at hand.
func (c *cut) take(x *viewer, o *object) {
	c.key = o.at.Start - 1
	x.usage()
	c.end, c.open = x.i, true
	if o.n == 1 {
		c.prev = c.key
	}
}

// shut closes a cut at the end of the object.
func (c *cut) shut(x *viewer) {
	if c.open {
		x.v.UsageAt = Span{c.prev, c.end}
	}
}

// chat reads the top level of every API but Responses.
func (x *viewer) chat() {
	var c cut
	whole, flat := x.i, false
	o := x.object(nil)
	for x.next(&o) {
		c.before(x, &o)
		switch string(o.key) {
		case "choices":
			x.choices()
		case "usage":
			c.take(x, &o)
		case "model":
			x.v.Model = x.name()
		case "error":
			x.failure()
		case "prompt_token_ids":
			x.v.Prompt = x.member(&o)
		case "object":
			from := x.i
			x.skip()
			flat = string(x.b[from:x.i]) == `"error"`
		default:
			x.skip()
		}
		if !c.open {
			c.prev = x.i
		}
	}
	c.shut(x)
	if flat && !x.v.Error {
		x.v.Error, x.v.ErrorAt = true, Span{whole, x.i}
	}
}

func (x *viewer) choices() {
	a := x.elements()
	for x.elem(&a) {
		x.choice(a.n - 1)
	}
	if !a.none {
		x.v.Choices = a.n
	}
}

func (x *viewer) choice(index int) {
	first, calls, end := len(x.v.Texts), len(x.v.Calls), Finish{}
	o := x.members()
	for x.next(&o) {
		switch string(o.key) {
		case "index":
			index = x.count()
		case "delta":
			x.message(false)
		case "message":
			x.message(true)
		case "text":
			x.text(Content, !x.event)
		case "finish_reason":
			end = x.finish()
		case "token_ids":
			x.v.Tokens = x.member(&o)
		case "prompt_token_ids":
			x.v.Prompt = x.member(&o)
		default:
			x.skip()
		}
	}
	for i := first; i < len(x.v.Texts); i++ {
		x.v.Texts[i].Choice = index
	}
	for i := calls; i < len(x.v.Calls); i++ {
		x.v.Calls[i].Choice = index
	}
	if end.Reason != "" {
		end.Choice = index
		x.v.Finishes = append(x.v.Finishes, end)
	}
}

// member skips the member at hand and says where it stands.
func (x *viewer) member(o *object) (m Member) {
	x.peek()
	m.At.Start, m.Value.Start = o.at.Start-1, x.i
	x.skip()
	m.At.End, m.Value.End = x.i, x.i
	return m
}

// finish reads a finish reason.
func (x *viewer) finish() (f Finish) {
	x.peek()
	f.At.Start = x.i
	f.Reason = x.name()
	f.At.End = x.i
	return f
}

// message reads a message or a delta of one. Tool is 1 for reasoning_content: some versions of vLLM
// send the same text as reasoning too, and the two must not run together in one window.
func (x *viewer) message(whole bool) {
	x.peek()
	calls, owner := len(x.v.Calls), Span{Start: x.i}
	o := x.members()
	for x.next(&o) {
		switch string(o.key) {
		case "content":
			x.content(Content, whole)
		case "reasoning":
			x.text(Reasoning, whole)
		case "reasoning_content":
			first := len(x.v.Texts)
			x.text(Reasoning, whole)
			x.tool(first, 1)
		case "refusal":
			x.text(Refused, whole)
		case "tool_calls":
			x.toolCalls(whole)
		case "function_call":
			x.legacyCall(whole)
		case "audio":
			x.audio(whole)
		default:
			x.skip()
		}
	}
	owner.End = x.i
	for i := calls; i < len(x.v.Calls); i++ {
		x.v.Calls[i].Owner = owner
	}
}

// audio reads what is said in a spoken answer. It is content, but not of the window of the written one.
func (x *viewer) audio(whole bool) {
	first := len(x.v.Texts)
	o := x.members()
	for x.next(&o) {
		if string(o.key) == "transcript" {
			x.text(Content, whole)
			continue
		}
		x.skip()
	}
	x.tool(first, spoken)
}

const spoken = 1 << 10 // beyond the index of any part

// tool sets the tool index of the texts from first on.
func (x *viewer) tool(first, index int) {
	for i := first; i < len(x.v.Texts); i++ {
		x.v.Texts[i].Tool = index
	}
}

// content reads a string or an array of parts.
func (x *viewer) content(c Channel, whole bool) {
	if x.peek() != '[' {
		x.text(c, whole)
		return
	}
	a := x.array()
	for x.elem(&a) {
		first := len(x.v.Texts)
		x.part(c, whole)
		x.tool(first, a.n-1)
	}
}

func (x *viewer) part(c Channel, whole bool) {
	if x.peek() != '{' {
		x.text(c, whole)
		return
	}
	first, thought := len(x.v.Texts), c == Reasoning
	o := x.object(nil)
	for x.next(&o) {
		switch string(o.key) {
		case "type":
			kind := x.name()
			thought = thought || kind == "reasoning_text" || kind == "summary_text"
		case "text":
			x.text(c, whole)
		case "refusal":
			x.text(Refused, whole)
		default:
			x.skip()
		}
	}
	for i := first; thought && i < len(x.v.Texts); i++ {
		x.v.Texts[i].Channel = Reasoning
	}
}

// text notes the string at hand as a text; anything else is skipped.
func (x *viewer) text(c Channel, whole bool) {
	if x.peek() != '"' {
		x.skip()
		return
	}
	at, _ := x.str()
	if len(x.v.Texts) >= maxTexts {
		x.fail("", "holds too many texts")
	}
	if x.err == nil {
		x.v.Texts = append(x.v.Texts, Text{At: at, Role: Assistant, Channel: c, Whole: whole})
	}
}

// name reads the string at hand; anything else is "".
func (x *viewer) name() string {
	if x.peek() != '"' {
		x.skip()
		return ""
	}
	at, escaped := x.str()
	switch {
	case x.err != nil:
		return ""
	case escaped:
		return string(appendDecoded(nil, x.b[at.Start:at.End]))
	}
	return intern(x.b[at.Start:at.End])
}

// failure reads the member `error`; false, 0, "" and null are none, as in the clients' SDKs.
func (x *viewer) failure() {
	x.peek()
	at := Span{Start: x.i}
	x.skip()
	at.End = x.i
	switch string(x.b[at.Start:at.End]) {
	case "null", "false", "0", `""`:
	default:
		x.v.Error, x.v.ErrorAt = true, at
	}
}

// count reads a count or an index: the whole part of the number at hand, 0 if it is negative, absurd or
// no number.
func (x *viewer) count() int {
	c := x.peek()
	if c-'0' > 9 {
		x.skip()
		return 0
	}
	at, _ := x.number()
	n := 0
	for _, d := range x.b[at.Start:max(at.Start, at.End)] {
		if d-'0' > 9 {
			break
		}
		if n = n*10 + int(d-'0'); n > maxCount {
			return 0
		}
	}
	return n
}

// usage reads the member `usage` in the words of the chat API or of the Responses API.
func (x *viewer) usage() {
	u, total := Usage{}, int64(0)
	o := x.members()
	for x.next(&o) {
		switch string(o.key) {
		case "prompt_tokens", "input_tokens":
			u.Prompt = int64(x.count())
		case "completion_tokens", "output_tokens":
			u.Completion = int64(x.count())
		case "total_tokens":
			total = int64(x.count())
		case "reasoning_tokens": // SGLang
			u.Reasoning = int64(x.count())
		case "prompt_tokens_details", "input_tokens_details":
			x.detail("cached_tokens", &u.Cached)
		case "completion_tokens_details", "output_tokens_details":
			x.detail("reasoning_tokens", &u.Reasoning)
		default:
			x.skip()
		}
	}
	if u.Prompt == 0 && u.Completion == 0 { // rerankers name the total alone
		u.Prompt = total
	}
	if !o.none {
		x.v.Usage, x.v.HasUsage = u, true
	}
}

// detail reads one member of an object of counts.
func (x *viewer) detail(name string, n *int64) {
	o := x.members()
	for x.next(&o) {
		if string(o.key) == name {
			*n = int64(x.count())
			continue
		}
		x.skip()
	}
}
