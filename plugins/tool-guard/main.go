// Command tool-guard is a gateway plugin that judges the tool calls of a model before the caller sees any of them: whether
// the caller may have the tool called, whether the request offered it, and whether its arguments fit their schemas. The
// thought is in judge; this file binds it.
package main

//lint:file-ignore U1000 what is exported to Wasm is called from there

import (
	"strconv"

	"github.com/nexus-gateway/nexus/plugins/callers"
	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

//go:wasmexport nexus_configure
func configure(n uint32) uint64 { return nexus.HandleConfigure(n, tools.configure) }

//go:wasmexport nexus_on_request
func onRequest(n uint32) uint64 { return nexus.HandleRequest(n, onRequestOf) }

//go:wasmexport nexus_on_tool_call
func onToolCall(n uint32) uint64 { return nexus.HandleToolCall(n, onToolCallOf) }

var tools = newGuard()

func onRequestOf(r *nexus.Request) { tools.request(r) }

func onToolCallOf(t *nexus.ToolCall) { tools.toolCall(t) }

// request looks at the tools that a request offers.
func (g *guard) request(r *nexus.Request) {
	who := callers.Of(r)
	var first []byte
	count := 0
	r.EachTool(func(name []byte) {
		if !g.may(&who, name) {
			if count++; first == nil {
				first = name
			}
		}
	})
	if count == 0 {
		return
	}
	nexus.AddMetric("offers_forbidden", float64(count))
	if g.refuseOffers {
		r.Refuse(403, "tool_not_allowed", "The request offers the tool "+string(callers.AppendPlain(nil, first, 64))+", which you may not have called.")
		return
	}
	r.SetLabel("tool_guard.forbidden", strconv.Itoa(count))
}

// toolCall judges one call.
func (g *guard) toolCall(t *nexus.ToolCall) {
	c := call{
		caller: callers.Of(t),
		name:   t.Name(), arguments: t.Arguments(), offered: t.Schema(), index: t.Index(),
	}
	j := g.judge(&c)
	if j.why == allowed {
		return
	}
	nexus.AddMetric(words[j.why].metric, 1)
	nexus.SetLabel("tool_guard.refused", words[j.why].label)
	text := g.explain(&c, j)
	if g.end {
		t.Refuse(403, "tool_call_refused", text)
		return
	}
	t.Drop(text)
}

func main() {} // never runs: a plugin is a library
