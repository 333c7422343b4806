package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/mock"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// steady lets answers go on elsewhere.
var steady = ContinuationConfig{Most: 2, TokenIDs: true, Memory: 256 << 10}

// A heard is what a client makes of a stream.
type heard struct {
	text, thought, finish string
	ids, models, roles    map[string]int
	usage                 llm.Usage
	usages, dones         int
	odd                   []string // what the client did not ask for
}

// hear reads the events of a stream as a client does.
func hear(t *testing.T, stream string) heard {
	t.Helper()
	h := heard{ids: map[string]int{}, models: map[string]int{}, roles: map[string]int{}}
	for event := range strings.SplitSeq(stream, "\n\n") {
		data, ok := strings.CutPrefix(event, "data: ")
		if data == "[DONE]" {
			h.dones++
		}
		if !ok || data == "[DONE]" {
			continue
		}
		var e struct {
			ID, Model string
			Created   int64
			Choices   []struct {
				Text         string
				Delta        struct{ Role, Content, Reasoning string }
				FinishReason string `json:"finish_reason"`
			}
			Usage *struct {
				Prompt     int64 `json:"prompt_tokens"`
				Completion int64 `json:"completion_tokens"`
				Total      int64 `json:"total_tokens"`
			}
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		h.ids[fmt.Sprint(e.ID, e.Created)]++
		h.models[e.Model]++
		for _, c := range e.Choices {
			h.text += c.Delta.Content + c.Text
			h.thought += c.Delta.Reasoning
			h.finish += c.FinishReason
			if c.Delta.Role != "" {
				h.roles[c.Delta.Role]++
			}
		}
		if e.Usage != nil {
			h.usages++
			h.usage = llm.Usage{Prompt: e.Usage.Prompt, Completion: e.Usage.Completion}
			if e.Usage.Total != e.Usage.Prompt+e.Usage.Completion {
				h.odd = append(h.odd, data)
			}
		}
		if strings.Contains(data, "token_ids") {
			h.odd = append(h.odd, data)
		}
	}
	return h
}

// pair is an upstream of a backend that goes wrong by script, and another that does not, in the order in which they are asked.
func pair(t *testing.T, kind, script string, edit func(*Config)) (u *Upstream, bad, good *mock.Server) {
	t.Helper()
	engine := mock.VLLM
	if kind == "sglang" {
		engine = mock.SGLang
	}
	models := []string{"mock", "mock-think"}
	bad, one := backendAt(t, mock.Options{Kind: engine, Models: models, Script: script})
	good, two := backendAt(t, mock.Options{Kind: engine, Models: models})
	cfg := Config{
		Backends: map[string]BackendConfig{"bad": {URL: one, Kind: kind}, "good": {URL: two, Kind: kind}},
		Pools: map[string]PoolConfig{
			"a": {Models: []string{"mock*"}, Backends: []string{"bad"}, Continue: steady},
			"b": {Models: []string{"mock*"}, Backends: []string{"good"}, Continue: steady},
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	return newUpstream(t, cfg), bad, good
}

// listen makes a call of the two pools and returns what came of it.
func listen(t *testing.T, u *Upstream, route llm.Endpoint, body string) (heard, *pipeline.Call, error) {
	t.Helper()
	c := newCall(t, route, body)
	c.Decision.Targets = []pipeline.Target{{Pool: "a"}, {Pool: "b"}}
	reply, err := u.Handle(context.Background(), c)
	if err != nil {
		return heard{}, c, err
	}
	text, err := drain(t, reply)
	return hear(t, text), c, err
}

const (
	asksUsage  = `"stream_options":{"include_usage":true},`
	chatBody   = `{"model":"mock","stream":true,%s"messages":[{"role":"user","content":"하나, \"two\" 🎉"}]}`
	thinkBody  = `{"model":"mock-think","stream":true,%s"messages":[{"role":"user","content":"x"}]}`
	legacyBody = `{"model":"mock","stream":true,"max_tokens":30,%s"prompt":"once \"upon\""}`
)

// An answer that breaks off in any way and at any place goes on at another backend, and is the one it would have been.
func TestAnswersGoOn(t *testing.T) {
	for _, kind := range []string{"vllm", "sglang", "openai"} {
		for _, call := range []struct {
			name, body string
			route      llm.Endpoint
		}{{"chat", chatBody, llm.Chat}, {"think", thinkBody, llm.Chat}, {"legacy", legacyBody, llm.Completions}} {
			if kind == "sglang" && call.name == "think" {
				continue // its reasoning_content is heard elsewhere
			}
			for _, fault := range []string{"die-after", "reset-after", "eof-after", "stall-after", "error-in-band", "abort-finish"} {
				t.Run(kind+" "+call.name+" "+fault, func(t *testing.T) {
					t.Parallel()
					for _, at := range []int{1, 7, 13} {
						if fault == "stall-after" && at != 7 {
							continue // each waits for a timeout
						}
						goesOn(t, kind, call.route, call.body, fmt.Sprintf("%s=%d", fault, at))
					}
				})
			}
		}
	}
}

func goesOn(t *testing.T, kind string, route llm.Endpoint, body, fault string) {
	t.Helper()
	well, _, _ := pair(t, kind, "", nil)
	u, bad, good := pair(t, kind, "fault="+fault, nil)
	for _, options := range []string{"", asksUsage} {
		want, _, err := listen(t, well, route, fmt.Sprintf(body, options))
		if err != nil {
			t.Fatal(err)
		}
		got, c, err := listen(t, u, route, fmt.Sprintf(body, options))
		if err != nil {
			t.Fatalf("%s: %v after %q", fault, err, got.text)
		}
		if got.text != want.text || got.thought != want.thought || got.finish != want.finish {
			t.Errorf("%s: %q %q %q, want %q %q %q", fault, got.thought, got.text, got.finish, want.thought, want.text, want.finish)
		}
		if got.dones != 1 || len(got.ids) != 1 || len(got.models) != 1 || got.roles["assistant"] != want.roles["assistant"] || len(got.odd) > 0 {
			t.Errorf("%s: %d [DONE], ids %v, models %v, roles %v, odd %q", fault, got.dones, got.ids, got.models, got.roles, got.odd)
		}
		if got.usages != want.usages {
			t.Errorf("%s: usage in %d events, want %d", fault, got.usages, want.usages)
		}
		twice := got.usage.Completion - want.usage.Completion // what was written anew counts as well
		if got.usage.Prompt != want.usage.Prompt || twice < 0 || kind != "openai" && twice > 1 {
			t.Errorf("%s: usage %+v, want %+v", fault, got.usage, want.usage)
		}
		o := c.Outcome
		if o.Usage.Completion < want.usage.Completion || o.Continued != 1 || o.Backend != "good" || o.Attempts != 2 || o.Finish != want.finish {
			t.Errorf("%s: outcome %+v", fault, o)
		}
	}
	if bad.Stats().Requests != 2 || good.Stats().Requests != 2 {
		t.Errorf("%s: %d and %d requests, want 2 each", fault, bad.Stats().Requests, good.Stats().Requests)
	}
	waitUntil(t, func() bool { return inflight(u) == 0 && u.pools[1].members()[0].peer.replica.Active() == 0 })
}
