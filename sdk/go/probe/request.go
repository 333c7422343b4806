package main

import (
	"strconv"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

func request(r *nexus.Request) {
	switch model := string(r.Model()); model {
	case "refuse":
		r.Refuse(402, "probe_refused", "asked to refuse")
	case "trap":
		panic("asked to trap")
	case "fail":
		r.Fail("asked to fail")
	default:
		if !say(r, model) && !count(r, model) {
			ask(r, model)
		}
		tell(r, model)
	}
}

// say does what is said in records alone.
func say(r *nexus.Request, model string) bool {
	switch model {
	case "answer":
		r.Answer("hello from the probe")
	case "switch":
		r.SetModel("other")
	case "pool":
		r.SetPool("other")
	case "system":
		r.SetSystem(nexus.Before, "Be brief.")
	case "headers":
		r.SetHeader("x-probe", "1")
		r.DropHeader("server")
		r.SetRequestHeader("x-probe-in", string(r.Header("x-ask")))
	default:
		return false
	}
	return true
}

// count asks the host for the counter.
func count(r *nexus.Request, model string) bool {
	switch model {
	case "count":
		n, ok := nexus.CountIf("k", 1, 2, 60000)
		if !ok {
			r.SetLabel("count", "full")
			return true
		}
		r.SetLabel("count", strconv.FormatInt(n, 10))
	case "read":
		r.SetLabel("count", strconv.FormatInt(nexus.Count("k"), 10))
	default:
		return false
	}
	return true
}

// ask asks the host for all else.
func ask(r *nexus.Request, model string) {
	switch model {
	case "set":
		nexus.SetModel("other")
		nexus.SetPool("other")
	case "known":
		r.SetLabel("known", or(nexus.Known(nexus.FactPrincipal, "")))
		r.SetLabel("asked", or(nexus.Known(nexus.FactHeader, "x-ask")))
		r.SetLabel("grade", or(nexus.Known(nexus.FactPrincipalLabel, "grade")))
	case "vault":
		nexus.VaultPut("probe value", "probe-token")
	case "log":
		nexus.Log("probe was asked")
	case "time":
		var b [8]byte
		nexus.Random(b[:])
		r.SetLabel("time", yes(nexus.NowMillis() > 0))
		r.SetLabel("random", yes(b != [8]byte{}))
	case "http":
		post(r)
	}
}

// post asks before it says anything: the question is written where records are.
func post(r *nexus.Request) {
	got, err := nexus.HTTP(nexus.HTTPRequest{Method: "POST", URL: "https://probe.test/ask", Header: [][2]string{{"x-probe", "1"}}, Body: "ping"})
	switch err {
	case nil:
		r.SetLabel("http", strconv.Itoa(got.Status))
		r.SetLabel("said", got.Body[:min(len(got.Body), 64)])
	case nexus.ErrNotAllowed:
		r.SetLabel("http", "denied")
	default:
		r.SetLabel("http", "no")
	}
}

// tell labels the call with what the request is.
func tell(r *nexus.Request, model string) {
	if len(model) > 0 && len(model) <= 256 {
		r.SetLabel("seen", model)
	}
	if names, any := tools(r); any && len(names) <= 256 {
		r.SetLabel("tools", names)
	}
	r.SetLabel("stream", yes(r.Stream()))
	r.SetLabel("bytes", yes(r.Bytes() > 0))
	r.SetLabel("turns", strconv.Itoa(r.Turns()))
	r.SetLabel("choices", strconv.Itoa(r.Choices()))
	r.SetLabel("images", strconv.Itoa(r.Images()))
	r.SetLabel("tool_count", strconv.Itoa(r.Tools()))
	r.SetLabel("texts", strconv.Itoa(r.Texts()))
	r.SetLabel("systems", strconv.Itoa(r.Systems()))
	r.SetLabel("max_tokens", strconv.FormatInt(r.MaxTokens(), 10))
}

func tools(r *nexus.Request) (names string, any bool) {
	r.EachTool(func(name []byte) {
		if any {
			names += ","
		}
		names, any = names+string(name), true
	})
	return names, any
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
