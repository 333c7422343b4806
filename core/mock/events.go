package mock

import (
	"strconv"
)

// events speaks the Responses API: named events, one output message, no end marker.
type events struct {
	x    *exchange
	p    *plan
	id   string
	seq  int
	said int
	text []byte
}

func newEvents(x *exchange, p *plan) *events {
	p.choices = p.choices[:1]
	return &events{x: x, p: p, id: escape(x.id)}
}

// event starts the event of a type; the rest of its object follows.
func (v *events) event(o *out, kind string) []byte {
	b := append(o.buf[:0], "event: "+kind+"\ndata: "+`{"type":"`+kind+`","sequence_number":`...)
	b = strconv.AppendInt(b, int64(v.seq), 10)
	v.seq++
	return append(b, ',')
}

// send sends events without variable parts besides the given.
func (v *events) send(o *out, kind string, parts ...string) error {
	b := v.event(o, kind)
	for _, p := range parts {
		b = append(b, p...)
	}
	return o.send(append(b, '}'))
}

func (v *events) item() string {
	return `"item_id":"msg_` + v.id + `","output_index":0,"content_index":0,`
}

func (v *events) message(status, content string) string {
	return `{"id":"msg_` + v.id + `","type":"message","role":"assistant","status":"` + status + `","content":[` + content + `]}`
}

func textPart(text string) string {
	return `{"type":"output_text","annotations":[],"text":"` + text + `"}`
}

func (v *events) open(o *out) error {
	for _, kind := range []string{"response.created", "response.in_progress"} {
		if err := v.send(o, kind, `"response":`, v.response("in_progress", "")); err != nil {
			return err
		}
	}
	if err := v.send(o, "response.output_item.added", `"output_index":0,"item":`, v.message("in_progress", "")); err != nil {
		return err
	}
	return v.send(o, "response.content_part.added", v.item(), `"part":`, textPart(""))
}

func (v *events) piece(o *out, c, from, to int) error {
	choice := &v.p.choices[c]
	v.said += to - from
	if from < choice.thoughts {
		return nil
	}
	text := choice.texts(from, to)
	v.text = append(v.text, text...)
	b := append(v.event(o, "response.output_text.delta"), v.item()...)
	return o.send(append(append(append(b, `"logprobs":[],"delta":"`...), text...), `"}`...))
}

func (v *events) finish(o *out, _ int, reason string) error {
	if err := v.send(o, "response.output_text.done", v.item(), `"logprobs":[],"text":"`, string(v.text), `"`); err != nil {
		return err
	}
	if err := v.send(o, "response.content_part.done", v.item(), `"part":`, textPart(string(v.text))); err != nil {
		return err
	}
	message := v.message(status(reason), textPart(string(v.text)))
	if err := v.send(o, "response.output_item.done", `"output_index":0,"item":`, message); err != nil {
		return err
	}
	kind := "response.completed"
	if status(reason) != "completed" {
		kind = "response.incomplete"
	}
	return v.send(o, kind, `"response":`, v.response(status(reason), message))
}

func (v *events) close(*out) (string, error) { return "", nil }

func (v *events) whole() []byte {
	c := &v.p.choices[0]
	v.said = len(c.ids)
	v.text = c.texts(c.thoughts, len(c.ids))
	end := status(v.x.endOf(c))
	return []byte(v.response(end, v.message(end, textPart(string(v.text)))))
}

func status(reason string) string {
	if reason == "stop" {
		return "completed"
	}
	return "incomplete"
}

// response is the response object; a finished one has its usage.
func (v *events) response(status, output string) string {
	usage, details := "null", "null"
	if status == "incomplete" {
		details = `{"reason":"max_output_tokens"}`
	}
	if status != "in_progress" && !v.x.script.fault.has(noUsage) {
		usage = v.usage()
	}
	return `{"id":"resp_` + v.id + `","object":"response","created_at":` + strconv.FormatInt(v.x.s.created, 10) +
		`,"status":"` + status + `","error":null,"incomplete_details":` + details + `,"model":"` + escape(v.x.req.Model) +
		`","output":[` + output + `],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":` + usage + `}`
}

func (v *events) usage() string {
	n := strconv.Itoa
	return `{"input_tokens":` + n(v.p.tokens) + `,"input_tokens_details":{"cached_tokens":` + n(v.p.cached) + `},"output_tokens":` + n(v.said) +
		`,"output_tokens_details":{"reasoning_tokens":` + n(v.p.choices[0].thoughts) + `},"total_tokens":` + n(v.p.tokens+v.said) + `}`
}
