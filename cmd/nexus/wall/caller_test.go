package wall

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// An answer is what a caller got, read as the SDKs of OpenAI read it. What they would choke on, or would
// take for an answer that it is not, stands in oddities.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // of the transport

	texts    map[int]string // by choice
	calls    string         // arguments of tool calls
	finish   map[int]string
	roles    map[int]int
	models   map[string]bool
	ids      map[string]bool
	usage    *usage
	failure  *failure // an error object, as a body or an event
	dones    int
	events   int
	comments int
	oddities []string

	head, first, took time.Duration // until the headers, the first text, and the end

	heard func(events int) // told of each event
}

type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

type failure struct {
	Message string
	Type    string
	Param   any
	Code    any
}

type payload struct {
	ID      string
	Object  string
	Model   string
	Usage   *usage
	Error   *failure
	Choices []struct {
		Index        int
		Delta        part
		Message      part
		FinishReason string `json:"finish_reason"`
	}
}

type part struct {
	Role      string
	Content   string
	ToolCalls []struct {
		Function struct{ Name, Arguments string }
	} `json:"tool_calls"`
}

const (
	streamed = `{"model":"chat","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"tell me"}]}`
	plain    = `{"model":"chat","messages":[{"role":"user","content":"tell me"}]}`
)

// callers have no connection in common, so that nothing of one test reaches another.
func (g *gateway) call(ctx context.Context, request string) *answer {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	return g.callBy(ctx, client, request)
}

func (g *gateway) callBy(ctx context.Context, client *http.Client, request string) *answer {
	return g.listen(ctx, client, request, func(int) {})
}

// listen makes a call and tells heard of each event of a stream.
func (g *gateway) listen(ctx context.Context, client *http.Client, request string, heard func(events int)) *answer {
	a := &answer{texts: map[int]string{}, finish: map[int]string{}, roles: map[int]int{}, models: map[string]bool{}, ids: map[string]bool{}, heard: heard}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.base+"/v1/chat/completions", strings.NewReader(request))
	if err != nil {
		a.err = err
		return a
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Cookie", "secret=caller")
	began := time.Now()
	response, err := client.Do(r)
	if err != nil {
		a.err = err
		a.took = time.Since(began)
		return a
	}
	defer response.Body.Close()
	a.status, a.header, a.head = response.StatusCode, response.Header, time.Since(began)
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		a.stream(response.Body, began)
	} else {
		a.whole(response.Body)
	}
	a.took = time.Since(began)
	return a
}

func (a *answer) oddf(format string, args ...any) {
	a.oddities = append(a.oddities, fmt.Sprintf(format, args...))
}

func (a *answer) whole(r io.Reader) {
	text, err := io.ReadAll(r)
	a.body, a.err = string(text), err
	var p payload
	if err := json.Unmarshal(text, &p); err != nil {
		a.oddf("a body that is not JSON: %.200q", text)
		return
	}
	if !utf8.Valid(text) {
		a.oddf("a body that is not UTF-8")
	}
	a.note(p)
	if a.status == 200 && a.failure != nil || a.status != 200 && a.failure == nil {
		a.oddf("status %d with %.200s", a.status, text)
	}
}

// stream reads events as the SDKs do: data lines up to a blank line.
func (a *answer) stream(r io.Reader, began time.Time) {
	in := bufio.NewReaderSize(r, 64<<10)
	data, any := "", false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			if err != io.EOF {
				a.err = err
			}
			if line != "" || any {
				a.oddf("the stream ends inside an event")
			}
			return
		}
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "":
			if any {
				a.event(data, began)
			}
			data, any = "", false
		case strings.HasPrefix(line, ":"):
			a.comments++
		case strings.HasPrefix(line, "data:"):
			data, any = data+strings.TrimPrefix(line[len("data:"):], " "), true
		default:
			a.oddf("a line that is no part of an event: %.100q", line)
		}
	}
}

func (a *answer) event(data string, began time.Time) {
	a.events++
	a.heard(a.events)
	if a.dones > 0 {
		a.oddf("after [DONE]: %.100q", data)
	}
	if data == "[DONE]" {
		a.dones++
		return
	}
	if a.failure != nil {
		a.oddf("after an error: %.100q", data)
	}
	if !utf8.ValidString(data) {
		a.oddf("an event that is not UTF-8: %.100q", data)
	}
	var p payload
	if err := json.Unmarshal([]byte(data), &p); err != nil {
		a.oddf("an event that is not JSON: %.100q", data)
		return
	}
	a.note(p)
	if a.first == 0 && (a.texts[0] != "" || a.calls != "") {
		a.first = time.Since(began)
	}
}

func (a *answer) note(p payload) {
	if p.Error != nil {
		a.failure = p.Error
		return
	}
	a.models[p.Model], a.ids[p.ID] = true, true
	if p.Usage != nil {
		a.usage = p.Usage
	}
	for _, c := range p.Choices {
		for _, m := range []part{c.Delta, c.Message} {
			if m.Role != "" {
				a.roles[c.Index]++
			}
			a.texts[c.Index] += m.Content
			for _, call := range m.ToolCalls {
				a.calls += call.Function.Arguments
			}
		}
		if c.FinishReason != "" {
			if a.finish[c.Index] != "" {
				a.oddf("choice %d finishes twice", c.Index)
			}
			a.finish[c.Index] = c.FinishReason
		}
	}
}

// ok reports whether an SDK would take the answer for one: status 200, no error, the body's end.
func (a *answer) ok() bool {
	return a.status == 200 && a.failure == nil && a.err == nil
}

// clear reports whether an SDK would raise an error that says something.
func (a *answer) clear() bool {
	return a.failure != nil && a.failure.Message != "" && a.failure.Type != "" && a.dones == 0
}

func (a *answer) String() string {
	f := ""
	if a.failure != nil {
		f = fmt.Sprintf(", error %+v", *a.failure)
	}
	return fmt.Sprintf("status %d after %v, first text %v, end %v; %d events, %d [DONE], %d comments; text of %d bytes …%q, calls %.60q, finish %v, models %v, ids %v, usage %+v%s, backend %q, transport %v, oddities %q",
		a.status, ms(a.head), ms(a.first), ms(a.took), a.events, a.dones, a.comments, len(a.texts[0]), tail(a.texts[0], 30), a.calls, a.finish, a.models, a.ids, a.usage, f, a.header.Get("X-Nexus-Backend"), a.err, a.oddities)
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// A view is what a row of the wall is judged by.
type view struct {
	*testing.T
	*answer
	gateway     *gateway
	main, spare *backend
	streaming   bool
}

// answered wants the whole answer, once, in the form that was asked for, from that backend.
func (v *view) answered(by string) {
	v.Helper()
	v.complete()
	if got := v.header.Get("X-Nexus-Backend"); got != by {
		v.Errorf("x-nexus-backend is %q, want %q", got, by)
	}
	if !v.models[by+"-model"] || len(v.models) != 1 {
		v.Errorf("the answer names the models %v, want %s-model", v.models, by)
	}
}

// complete wants the whole answer, whoever gave it.
func (v *view) complete() {
	v.Helper()
	if !v.ok() {
		v.Fatalf("no answer: %v", v.answer)
	}
	if v.texts[0] != fullText {
		v.Errorf("the text is %q", v.texts[0])
	}
	if v.finish[0] != "stop" {
		v.Errorf("finish_reason is %q", v.finish[0])
	}
	v.framed()
}

// framed wants one role, one id, one [DONE] at the end.
func (v *view) framed() {
	v.Helper()
	if len(v.ids) != 1 || len(v.models) != 1 || v.roles[0] != 1 {
		v.Errorf("ids %v, models %v, %d roles", v.ids, v.models, v.roles[0])
	}
	if v.streaming && v.dones != 1 {
		v.Errorf("%d [DONE]", v.dones)
	}
}

// counted wants the usage that the caller asked for.
func (v *view) counted(prompt, completion int) {
	v.Helper()
	want := usage{prompt, completion, prompt + completion}
	if v.usage == nil || *v.usage != want {
		v.Errorf("usage is %+v, want %+v", v.usage, want)
	}
}

// failed wants a clear error: as a status before anything was sent, in the stream after.
func (v *view) failed() {
	v.Helper()
	if !v.clear() {
		v.Fatalf("no clear error: %v", v.answer)
	}
	if v.answer.err != nil && v.status != 200 {
		v.Errorf("the error's body broke off: %v", v.answer)
	}
	if !strings.HasPrefix(fullText, v.texts[0]) {
		v.Errorf("what was delivered is no part of the answer: %q", v.texts[0])
	}
}

// completeOrFailed wants either, and nothing in between.
func (v *view) completeOrFailed() {
	v.Helper()
	if v.ok() {
		v.complete()
		return
	}
	v.failed()
}

// asks wants a number of calls at each backend.
func (v *view) asks(main, spare int) {
	v.Helper()
	if m, s := len(v.main.calls()), len(v.spare.calls()); m != main || s != spare {
		v.Errorf("main was asked %d times and spare %d, want %d and %d", m, s, main, spare)
	}
}

func (v *view) asksAtMost(main, spare int) {
	v.Helper()
	if m, s := len(v.main.calls()), len(v.spare.calls()); m > main || s > spare {
		v.Errorf("main was asked %d times and spare %d, want at most %d and %d", m, s, main, spare)
	}
}

func (v *view) within(d time.Duration) {
	v.Helper()
	if v.took > d {
		v.Errorf("it took %v, want at most %v", ms(v.took), d)
	}
}

// settled wants everything in order once the caller has its answer: the gateway alive, nothing still under way at the
// backends, no credential or cookie of the caller's gone to them, nothing an SDK chokes on.
func (v *view) settled() {
	v.Helper()
	for _, odd := range v.oddities {
		v.Errorf("an SDK chokes: %s", odd)
	}
	if v.header != nil && v.header.Get("X-Request-Id") == "" {
		v.Error("no x-request-id")
	}
	waitUntil(v.T, 2*time.Second, "calls at the backends end", func() bool { return v.main.busy()+v.spare.busy() == 0 })
	if !v.gateway.ready() {
		v.Error("the gateway is not ready after")
	}
	ids := map[string]bool{}
	for _, b := range []*backend{v.main, v.spare} {
		for _, x := range b.calls() {
			if got := x.header.Get("Authorization"); got != "Bearer "+b.name+"-credential" {
				v.Errorf("%s was sent the credential %q", b.name, got)
			}
			if x.header.Get("Cookie") != "" || x.header.Get("Accept-Encoding") != "" && x.header.Get("Accept-Encoding") != "identity" {
				v.Errorf("%s was sent the headers %v", b.name, x.header)
			}
			if id := x.header.Get("X-Request-Id"); id == "" || ids[id] {
				v.Errorf("two attempts have the id %q", id)
			} else {
				ids[id] = true
			}
		}
	}
}
