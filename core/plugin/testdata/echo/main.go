// Command echo is a guest that labels a request with what it was told of it.
package main

import (
	"strconv"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

//go:wasmexport nexus_on_request
func onRequest(n uint32) uint64 { return nexus.HandleRequest(n, echo) }

func echo(r *nexus.Request) {
	for name, n := range map[string]int{"choices": r.Choices(), "turns": r.Turns(), "tools": r.Tools(), "texts": r.Texts(), "max_tokens": int(r.MaxTokens())} {
		r.SetLabel(name, strconv.Itoa(n))
	}
	for name, value := range map[string][]byte{"id": r.ID(), "route": r.Route(), "model": r.Model(), "principal": r.Principal(),
		"tenant": r.Tenant(), "team": r.Team(), "tier": r.Tier(), "label": r.Label("earlier"), "grade": r.PrincipalLabel("grade")} {
		r.SetLabel(name, string(value))
	}
	r.EachTool(func(name []byte) { r.SetLabel("tool", string(name)) })
	r.SetHeader("X-Echo", "heard")
	r.SetModel("m2")
	nexus.Log("heard\nit")
	if string(r.Tier()) == "none" {
		r.Refuse(402, "unpaid", "Pay first.")
	}
	if r.Stream() {
		r.Fail("no streams")
	}
}

func main() {}
