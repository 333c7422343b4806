// Command judge is a guest that does what it is told: of a request by the header x-do, of a tool call by the
// function's name. It logs what it was told of usage and of the end.
package main

import (
	"strconv"
	"strings"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

//go:wasmexport nexus_on_request
func onRequest(n uint32) uint64 { return nexus.HandleRequest(n, request) }

func request(r *nexus.Request) {
	for do := range strings.SplitSeq(string(r.Header("x-do")), ";") {
		what, how, _ := strings.Cut(do, "=")
		name, value, _ := strings.Cut(how, ":")
		switch what {
		case "drop":
			r.DropHeader(how)
		case "set":
			r.SetHeader(name, value)
		case "forward":
			r.SetRequestHeader(name, value)
		case "pool":
			r.SetPool(how)
		case "before":
			r.SetSystem(nexus.Before, how)
		case "after":
			r.SetSystem(nexus.After, how)
		case "instead":
			r.SetSystem(nexus.Instead, how)
		case "answer":
			r.Answer(how)
		case "refuse":
			r.Refuse(418, how, "")
		case "retry":
			seconds, _ := strconv.Atoi(how)
			r.RetryAfter(seconds)
		case "see":
			r.SetLabel("seen", string(r.Header(how)))
		}
	}
}

//go:wasmexport nexus_on_tool_call
func onToolCall(n uint32) uint64 { return nexus.HandleToolCall(n, toolCall) }

func toolCall(t *nexus.ToolCall) {
	switch string(t.Name()) {
	case "drop":
		t.Drop("[dropped]")
	case "vanish":
		t.Drop("")
	case "refuse":
		t.Refuse(451, "no_tools", "Not this tool.")
	case "rewrite":
		t.SetArguments(`{"was":` + strconv.Itoa(len(t.Arguments())) + `}`)
	case "nonsense":
		t.SetArguments(`{"was":`)
	case "fail":
		t.Fail("cannot judge")
	case "facts":
		schema := t.Schema()
		if schema == nil {
			schema = []byte("null")
		}
		t.SetArguments(`{"stream":` + strconv.FormatBool(t.Stream()) + `,"choice":` + strconv.Itoa(t.Choice()) + `,"index":` + strconv.Itoa(t.Index()) +
			`,"id":"` + string(t.CallID()) + `","route":"` + string(t.Route()) + `","schema":` + string(schema) + `,"arguments":` + string(t.Arguments()) + `}`)
	}
}

//go:wasmexport nexus_on_usage
func onUsage(n uint32) uint64 { return nexus.HandleUsage(n, usage) }

func usage(u *nexus.Usage) {
	nexus.Log("usage " + number(u.Prompt()) + " " + number(u.Completion()) + " " + number(u.Cached()) + " " + number(u.Reasoning()) +
		" final=" + strconv.FormatBool(u.Final()) + " estimated=" + strconv.FormatBool(u.Estimated()) + " backend=" + string(u.Backend()))
	if u.Completion() >= 1000 {
		u.Refuse(429, "spent", "That is enough.")
	}
}

//go:wasmexport nexus_on_end
func onEnd(n uint32) { nexus.HandleEnd(n, end) }

func end(e *nexus.End) {
	nexus.Log("end " + string(e.ID()) + " " + strconv.Itoa(e.Status()) + " complete=" + strconv.FormatBool(e.Complete()) + " stream=" + strconv.FormatBool(e.Stream()) +
		" completion=" + number(e.Completion()) + " timed=" + strconv.FormatBool(e.First() >= 0 && e.First() <= e.Millis()) +
		" backend=" + string(e.Backend()) + " why=" + string(e.Failure()) + " label=" + string(e.Label("seen")))
	if string(e.Tenant()) == "trap" {
		panic("as told")
	}
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func main() {}
