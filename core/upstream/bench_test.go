package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// BenchmarkStream is what an event costs on its way from the socket to the caller: with continuation off, armed on texts
// alone, and armed on the numbers of the tokens, which come with every event and are taken out again.
func BenchmarkStream(b *testing.B) {
	for _, bb := range []struct {
		name, kind string
		numbers    bool
		most       int
		metered    bool
	}{{"off", "vllm", false, 0, false}, {"text", "openai", false, 2, false}, {"ids", "vllm", true, 2, false},
		{"metered_off", "vllm", false, 0, true}, {"metered_ids", "vllm", true, 2, true}} {
		b.Run(bb.name, func(b *testing.B) { benchStream(b, bb.kind, bb.numbers, bb.most, bb.metered) })
	}
}

func benchStream(b *testing.B, kind string, numbers bool, most int, metered bool) {
	const events = 500
	sent := streamHead
	var body strings.Builder
	for i := range events {
		prompt, ids, usage, finish := "", "", "", "null"
		if numbers {
			ids = fmt.Sprintf(`,"token_ids":[%d]`, 10_000+i)
		}
		if numbers && i == 0 {
			prompt = `,"prompt_token_ids":[1` + strings.Repeat(",12345", 200) + `]`
		}
		if metered {
			usage = fmt.Sprintf(`,"usage":{"prompt_tokens":201,"total_tokens":%d,"completion_tokens":%d}`, 202+i, 1+i)
		}
		if i == events-1 {
			finish = `"stop"`
		}
		fmt.Fprintf(&body, `data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1764500000,"model":"mock","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":%s%s}]%s%s}`+"\n\n", finish, ids, usage, prompt)
	}
	sent += chunked(body.String()+doneText) + "0\r\n\r\n"
	server := rawBackend(b, func(c net.Conn, _ int64) { _, _ = io.WriteString(c, sent) })
	u, err := New(Config{
		Backends: map[string]BackendConfig{"one": {URL: server.url, Kind: kind, Weight: 1}},
		Pools:    map[string]PoolConfig{"p": {Models: []string{"mock"}, Backends: []string{"one"}, Timeouts: fast, Continue: ContinuationConfig{Most: most, TokenIDs: true, Memory: 256 << 10}}},
	}, NewFleet(), NewMetrics(prometheus.NewRegistry()), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer u.Close()
	r := new(llm.Request)
	if err := llm.ParseRequest(llm.Chat, []byte(chat("x", true)), r); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		c := &pipeline.Call{ID: "req-1", Route: llm.Chat, Request: r, Metered: metered}
		reply, err := u.Handle(context.Background(), c)
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = reply.Stream.Next()
		}
		if err != io.EOF {
			b.Fatal(err)
		}
		_ = reply.Stream.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
}
