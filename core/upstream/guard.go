package upstream

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// guarded are request members that make vLLM or SGLang read something else than the text that plugins
// and policy saw, choose whose cache is read, or reach into the engine. A caller may send one only on a
// route that allows it by name.
var guarded = map[string]bool{
	"kv_transfer_params": true, "ec_transfer_params": true, "input_ids": true, "prompt_embeds": true,
	"input_embeds": true, "chat_template": true, "custom_logit_processor": true, "custom_params": true,
	"lora_path": true, "session_params": true, "session_id": true, "rid": true, "request_id": true,
	"bootstrap_host": true, "bootstrap_port": true, "bootstrap_room": true, "routed_dp_rank": true,
	"data_parallel_rank": true, "vllm_xargs": true, "priority": true, "cache_salt": true, "extra_key": true,
	"return_hidden_states": true, "return_routed_experts": true, "image_data": true, "audio_data": true,
	"video_data": true, "token_ids_logprob": true, "prompt_token_ids": true, "previous_response_id": true,
	"conversation": true, "background": true,
}

// TokenPrompt is the name by which a route allows prompts given as token numbers.
const TokenPrompt = "token_prompt"

// Guard refuses request members that would walk round plugins and policy.
type Guard struct {
	allow map[llm.Endpoint][]string
}

var _ pipeline.Stage = (*Guard)(nil)

// NewGuard returns the stage for routes.
func NewGuard(routes map[string]RouteConfig) *Guard {
	g := &Guard{allow: make(map[llm.Endpoint][]string, len(routes))}
	for name, r := range routes {
		g.allow[llm.Endpoint(name)] = r.AllowFields
	}
	return g
}

// Handle refuses or passes the call on.
func (g *Guard) Handle(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	if r := g.check(c); r != nil {
		return nil, r
	}
	return next.Handle(ctx, c)
}

func (g *Guard) check(c *pipeline.Call) *pipeline.Refusal {
	allow := g.allow[c.Route]
	var bad string
	c.Request.EachField(func(name string, value []byte) bool {
		if guarded[name] && string(value) != "null" && !slices.Contains(allow, name) {
			bad = strings.Clone(name)
		}
		return bad == ""
	})
	if bad != "" {
		return refuseField(bad, fmt.Sprintf("%q is not accepted on this route: it would bypass what the gateway checks. Leave it out, or ask the operator to allow it for route %q.", bad, c.Route))
	}
	if c.Request.TokenPrompt && !slices.Contains(allow, TokenPrompt) {
		param := "prompt"
		if _, ok := c.Request.Field(param); !ok {
			param = "input"
		}
		return refuseField(param, "prompts given as token numbers are not accepted on this route: the gateway cannot read them. Send text.")
	}
	return nil
}

func refuseField(param, reason string) *pipeline.Refusal {
	return &pipeline.Refusal{Kind: pipeline.Invalid, Stage: "guard", Code: "unsupported_parameter", Param: param, Reason: reason}
}
