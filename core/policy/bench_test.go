package policy

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

const chatBody = `{"model":"small","stream":true,"max_tokens":64,"messages":[{"role":"system","content":"You are kind."},{"role":"user","content":"안녕하세요, 오늘 날씨를 알려 주세요."}]}`

func newCall(t testing.TB, body string) *pipeline.Call {
	t.Helper()
	c := &pipeline.Call{
		ID: "req-1", Route: llm.Chat, Method: "POST", Path: "/v1/chat/completions", Request: &llm.Request{},
		Principal: &pipeline.Principal{ID: "k1", Kind: "key", Tenant: "acme", Tier: "free"},
		Quota:     pipeline.QuotaView{RequestsLeft: -1, TokensLeft: -1},
	}
	if err := llm.ParseRequest(llm.Chat, []byte(body), c.Request); err != nil {
		t.Fatal(err)
	}
	return c
}

var passed = pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
	return &llm.Reply{Status: 200, Stream: llm.One(llm.Chunk{})}, nil
})

func benchEngine(b *testing.B) *Engine {
	src := Shipped()
	src.Pools = []string{"default"}
	e, err := Compile(b.Context(), src, testConfig())
	if err != nil {
		b.Fatal(err)
	}
	return e
}

func BenchmarkStage(b *testing.B) {
	e := benchEngine(b)
	s := e.Stage(Env{})
	c := newCall(b, chatBody)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Handle(b.Context(), c, passed); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%+v", c.Decision)
}

// Two routes claim the call, and the one of higher priority has it.
func BenchmarkStageTwoClaims(b *testing.B) {
	s := benchEngine(b).Stage(Env{})
	c := newCall(b, chatBody)
	c.PII.Kinds = []string{"KR_RRN"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Handle(b.Context(), c, passed); err != nil || c.Decision.Rule != "routes.personal" {
			b.Fatal(c.Decision, err)
		}
	}
}

func BenchmarkInputWhole(b *testing.B) {
	s := benchEngine(b).Stage(Env{})
	s.plan = planOf(reads{"input": nil})
	c := newCall(b, chatBody)
	b.ReportAllocs()
	for b.Loop() {
		s.plan.build(s.facts(c))
	}
}

func BenchmarkEvaluate(b *testing.B) {
	e := benchEngine(b)
	s := e.Stage(Env{})
	input := s.plan.build(s.facts(newCall(b, chatBody)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.evaluate(b.Context(), input); err != nil {
			b.Fatal(err)
		}
	}
}

// A large table in the data must not cost the call that looks up one row of it.
func BenchmarkTenants(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var data strings.Builder
			data.WriteString(`{"tenants": {"acme": {"pools": ["default"]}`)
			for i := range n {
				fmt.Fprintf(&data, `,"tenant-%d": {"pools": ["default", "other"], "models": ["a", "b"]}`, i)
			}
			data.WriteString("}}")
			e := compile(b, testConfig(), "data.json", data.String(), "a.rego",
				"package nexus.routes\n\nresidency := {\"targets\": data.tenants[input.principal.tenant].pools} if input.principal.tenant\n")
			s := e.Stage(Env{})
			c := newCall(b, chatBody)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Handle(b.Context(), c, passed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
