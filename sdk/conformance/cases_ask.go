package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/plugin"
)

const anyBody = `{"model":"some-model","messages":[{"role":"user","content":"hi"}]}`

// text lets the case's text through, whole and cut at every place.
func (c *Case) text(ctx context.Context, t *plugin.Trial) error {
	k := kind{name: "the text"}
	k.Reply, k.LastUser = c.Direction == "reply", c.LastUser
	k.Channel = channelOf(uint8(slices.Index(channels, c.Channel)))
	switch {
	case c.Role != "":
		k.Role = roleOf(uint8(slices.Index(roles, c.Role)))
	case k.Reply:
		k.Role = llm.Assistant
	default:
		k.Role = llm.User
	}
	if len(c.Pieces) > 0 {
		return c.through(ctx, t, k, c.Pieces...)
	}
	if err := c.through(ctx, t, k, c.Text); err != nil {
		return err
	}
	for _, at := range placesOf(c.Text) {
		if err := c.through(ctx, t, k, c.Text[:at], c.Text[at:]); err != nil {
			return breaks(again(k, "", c.Text[:at], c.Text[at:]), "cut in two: %w", err)
		}
	}
	return c.through(ctx, t, k, strings.Split(c.Text, "")...)
}

func (c *Case) through(ctx context.Context, t *plugin.Trial, k kind, pieces ...string) error {
	call, err := c.call(anyBody)
	if err != nil {
		return err
	}
	k.Call = call
	found, err := t.Text(ctx, k.TextTrial, pieces...)
	if err := c.refusal(err); err != nil || c.Refused != "" {
		return err
	}
	if c.Want != nil && found.Text != *c.Want {
		return fmt.Errorf("got %q, want %q", found.Text, *c.Want)
	}
	if c.Kinds != nil && !slices.Equal(found.Kinds, c.Kinds) {
		return fmt.Errorf("found %q, want %q", found.Kinds, c.Kinds)
	}
	return c.said(call)
}

// refusal compares how a question ended.
func (c *Case) refusal(err error) error {
	var no *pipeline.Refusal
	switch {
	case err == nil && c.Refused == "":
		return nil
	case err == nil:
		return fmt.Errorf("it was not refused; want %q", c.Refused)
	case plugin.FaultCause(err) != "" || !errors.As(err, &no):
		return failure(err)
	case no.Code != c.Refused:
		return fmt.Errorf("refused with %q (%s), want %q", no.Code, no.Reason, c.Refused)
	}
	return nil
}

// said compares what the plugin said of the call.
func (c *Case) said(call *pipeline.Call) error {
	for name, want := range c.Labels {
		if got := call.Labels[name]; got != want {
			return fmt.Errorf("the label %q is %q, want %q", name, got, want)
		}
	}
	if c.Model != "" && call.Request.Model != c.Model {
		return fmt.Errorf("the model is %q, want %q", call.Request.Model, c.Model)
	}
	if c.Pool != "" && call.Pool != c.Pool {
		return fmt.Errorf("the pool is %q, want %q", call.Pool, c.Pool)
	}
	for name, got := range map[string]string{"before": call.System.Before, "after": call.System.After, "replace": call.System.Replace} {
		if want, ok := c.System[name]; ok && got != want {
			return fmt.Errorf("the system text %s is %q, want %q", name, got, want)
		}
	}
	if err := sameHeaders("reply", call.Headers, c.Headers); err != nil {
		return err
	}
	return sameHeaders("backend", call.Forward, c.Forward)
}

func sameHeaders(whose string, got http.Header, want map[string]string) error {
	for name, v := range want {
		list, ok := got[http.CanonicalHeaderKey(name)]
		if !ok || v == "" && len(list) > 0 || v != "" && strings.Join(list, ", ") != v {
			return fmt.Errorf("the %s's header %q is %q (%t), want %q", whose, name, list, ok, v)
		}
	}
	return nil
}

// request lets the case's request through.
func (c *Case) request(ctx context.Context, t *plugin.Trial) error {
	call, err := c.call(c.Request)
	if err != nil {
		return err
	}
	out, err := t.Reply(ctx, call, wholeReply(`{"role":"assistant","content":"the backend's"}`, "stop"))
	if err := c.refusal(err); err != nil || c.Refused != "" {
		return err
	}
	if err := c.said(call); err != nil || c.Want == nil {
		return err
	}
	h, err := hear(out)
	if err == nil && h.content != *c.Want {
		err = fmt.Errorf("the answer is %q, want %q", h.content, *c.Want)
	}
	return err
}

// wholeReply is a chat completion with one choice.
func wholeReply(message, finish string) string {
	return `{"id":"c","object":"chat.completion","created":1,"model":"some-model","choices":[{"index":0,"message":` + message + `,"finish_reason":"` + finish + `"}]}`
}

// A chat is what is looked at of a reply, whole or event.
type chat struct {
	Choices []struct {
		Message, Delta message
		Finish         string `json:"finish_reason"`
	}
	Error *struct{ Code, Message string }
}

type message struct {
	Content string
	Calls   []struct {
		ID       string
		Function struct{ Name, Arguments string }
	} `json:"tool_calls"`
}

// heard is what a caller makes of a reply: all of its events put together.
type heard struct {
	content, finish  string
	names, arguments string
	err              string
}

func hear(reply string) (h heard, err error) {
	for line := range strings.Lines(reply) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "data:"))
		if line == "" || line == "[DONE]" || strings.HasPrefix(line, ":") || strings.HasPrefix(line, "event:") {
			continue
		}
		var c chat
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			return h, fmt.Errorf("the caller cannot read %q: %w", line, err)
		}
		h.take(&c)
	}
	return h, nil
}

func (h *heard) take(c *chat) {
	if c.Error != nil {
		h.err = c.Error.Code
	}
	for _, one := range c.Choices {
		for _, m := range []message{one.Message, one.Delta} {
			h.content += m.Content
			for _, call := range m.Calls {
				h.names += call.Function.Name
				h.arguments += call.Function.Arguments
			}
		}
		if one.Finish != "" {
			h.finish = one.Finish
		}
	}
}

// reply lets the case's tool call or usage through, whole and as a stream.
func (c *Case) reply(ctx context.Context, t *plugin.Trial) error {
	for _, stream := range []bool{false, true} {
		if c.Usage != nil && !stream {
			continue
		}
		call, err := c.call(c.asking(stream))
		if err != nil {
			return err
		}
		out, err := t.Reply(ctx, call, c.answering(stream))
		if err := c.refusal(err); err != nil {
			return fmt.Errorf("stream %t: %w", stream, err)
		}
		if c.Refused != "" {
			continue
		}
		if err := c.hears(out); err != nil {
			return fmt.Errorf("stream %t: %w", stream, err)
		}
		if err := c.said(call); err != nil {
			return err
		}
	}
	return nil
}

func (c *Case) hears(out string) error {
	h, err := hear(out)
	if err != nil || c.ToolCall == nil {
		return err
	}
	if dropped := h.names == ""; dropped != c.Dropped {
		return fmt.Errorf("the tool call is taken out: %t, want %t", dropped, c.Dropped)
	}
	got := h.arguments
	if c.Dropped {
		got = strings.TrimPrefix(h.content, moment)
	}
	if c.Want != nil && got != *c.Want {
		return fmt.Errorf("got %q, want %q", got, *c.Want)
	}
	return nil
}

// moment is what the model says before it calls a tool in a stream.
const moment = "one moment"

// asking is the request that the reply answers.
func (c *Case) asking(stream bool) string {
	tools := ""
	if c.ToolCall != nil && c.ToolCall.Schema != "" {
		tools = `,"tools":[{"type":"function","function":{"name":` + quote(c.ToolCall.Name) + `,"parameters":` + c.ToolCall.Schema + `}}]`
	}
	return fmt.Sprintf(`{"model":"some-model","stream":%t,"messages":[{"role":"user","content":"hi"}]%s}`, stream, tools)
}

func (c *Case) answering(stream bool) string {
	if c.Usage != nil {
		return event(`{"content":"hi"}`, "null") + usageEvent(c.Usage.Prompt, c.Usage.Completion) + event(`{}`, `"stop"`) + done
	}
	if stream {
		return toolEvents(c.ToolCall.Name, c.ToolCall.Arguments)
	}
	call := `{"id":"call_1","type":"function","function":{"name":` + quote(c.ToolCall.Name) + `,"arguments":` + quote(c.ToolCall.Arguments) + `}}`
	return wholeReply(`{"role":"assistant","content":null,"tool_calls":[`+call+`]}`, "tool_calls")
}

const done = "data: [DONE]\n\n"

// event is one event of a chat stream; finish is JSON.
func event(delta, finish string) string {
	return `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"some-model","choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + finish + "}]}\n\n"
}

func usageEvent(prompt, completion int64) string {
	return fmt.Sprintf(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"some-model","choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`+"\n\n",
		prompt, completion, prompt+completion)
}

// toolEvents is a stream that calls a tool, its arguments in pieces of three characters.
func toolEvents(name, arguments string) string {
	var b strings.Builder
	b.WriteString(event(`{"role":"assistant","content":"`+moment+`"}`, "null"))
	b.WriteString(event(`{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":`+quote(name)+`,"arguments":""}}]}`, "null"))
	for rest := []rune(arguments); len(rest) > 0; rest = rest[min(3, len(rest)):] {
		b.WriteString(event(`{"tool_calls":[{"index":0,"function":{"arguments":`+quote(string(rest[:min(3, len(rest))]))+`}}]}`, "null"))
	}
	b.WriteString(event(`{}`, `"tool_calls"`) + done)
	return b.String()
}
