package nexus

import (
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/sdk/abi"
)

func TestTryRequestSays(t *testing.T) {
	call := Call{Choices: 1, Turns: 3, Systems: 2, Headers: map[string]string{"x-a": "1"}, Model: "m"}
	s, err := TryRequest(func(r *Request) {
		if r.Systems() != 2 || string(r.Header("x-a")) != "1" || r.Header("x-b") != nil {
			r.Fail("what is known is wrong")
		}
		r.SetPool("p")
		r.SetSystem(After, "Be kind.")
		r.SetRequestHeader("x-c", "2")
		r.DropHeader("server")
		r.Answer("hello")
	}, call)
	if err != nil || s.Pool != "p" || s.System[After] != "Be kind." || s.RequestHeaders["x-c"] != "2" || len(s.DropHeaders) != 1 || !s.Answered || s.Text != "hello" {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestTryToolCall(t *testing.T) {
	c := Called{Call: Call{Stream: true, Tenant: "acme"}, Choice: 1, Index: 2, CallID: "c1", Name: "f", Arguments: `{"a":1}`, Schema: `{}`}
	judge := func(t *ToolCall) {
		if !t.Stream() || t.Choice() != 1 || t.Index() != 2 || string(t.CallID()) != "c1" || string(t.Tenant()) != "acme" || string(t.Schema()) != "{}" {
			t.Fail("what is known is wrong")
		}
		switch string(t.Arguments()) {
		case `{"a":1}`:
			t.SetArguments(`{"a":2}`)
		case `1`:
			t.Drop("gone")
		case `2`:
			t.Refuse(403, "no", "No.")
		case `3`:
			t.SetArguments(`{`)
		}
	}
	if s, err := TryToolCall(judge, c); err != nil || s.Arguments != `{"a":2}` || s.Dropped || s.Refused {
		t.Errorf("got %+v, %v", s, err)
	}
	c.Arguments = `1`
	if s, err := TryToolCall(judge, c); err != nil || !s.Dropped || s.Text != "gone" {
		t.Errorf("got %+v, %v", s, err)
	}
	c.Arguments = `2`
	if s, err := TryToolCall(judge, c); err != nil || !s.Refused || s.Status != "403" || s.Code != "no" {
		t.Errorf("got %+v, %v", s, err)
	}
	c.Arguments = `3`
	if s, err := TryToolCall(judge, c); err == nil || !strings.Contains(err.Error(), "not JSON") {
		t.Errorf("got %+v, %v", s, err)
	}
	c.Choice = 0
	if _, err := TryToolCall(judge, c); err == nil || !strings.Contains(err.Error(), "what is known is wrong") {
		t.Errorf("got %v", err)
	}
}

func TestTryUsage(t *testing.T) {
	cut := func(u *Usage) {
		if u.Completion() > 1<<40 && u.Final() && u.Estimated() && u.Prompt() == 1 && u.Cached() == 2 && u.Reasoning() == 3 && string(u.Backend()) == "b" {
			u.Refuse(429, "", "")
		}
	}
	u := Used{Final: true, Estimated: true, Prompt: 1, Completion: 1<<40 + 1, Cached: 2, Reasoning: 3, Backend: "b"}
	if s, err := TryUsage(cut, u); err != nil || !s.Refused || s.Status != "429" {
		t.Errorf("got %+v, %v", s, err)
	}
	u.Completion--
	if s, err := TryUsage(cut, u); err != nil || s.Refused {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestTryEnd(t *testing.T) {
	e := Ended{Used: Used{Call: Call{Stream: true}, Completion: 7}, Complete: true, Status: 499, Millis: 12, First: -1, Failure: "left"}
	asked := false
	err := TryEnd(func(e *End) {
		asked = e.Stream() && e.Complete() && e.Status() == 499 && e.Completion() == 7 && e.Millis() == 12 && e.First() == -1 && string(e.Failure()) == "left"
	}, e)
	if err != nil || !asked {
		t.Errorf("got %t, %v", asked, err)
	}
}

func TestTryHost(t *testing.T) {
	h := TryHost(NewHost())
	defer TryHost(NewHost())
	h.Labels["seen"], h.Facts[FactModel], h.Named["x-a"], h.Now = "yes", "m", "1", 5
	h.Answer = func(r HTTPRequest) (HTTPResponse, error) { return HTTPResponse{Status: 200, Body: r.Body}, nil }
	_, err := TryRequest(func(r *Request) {
		seen, _ := Label("seen")
		model, _ := Known(FactModel, "")
		header, _ := Known(FactHeader, "x-a")
		got, _ := HTTP(HTTPRequest{URL: "https://a.test/", Body: "ping"})
		SetLabel("all", seen+model+header+got.Body)
		for range 3 {
			if _, ok := CountIf("k", 1, 2, 1000); !ok {
				AddMetric("full", 1)
			}
		}
		SetModel("n")
		SetPool("p")
		VaultPut("value", "token")
		Log("line")
	}, Call{})
	if err != nil || h.Labels["all"] != "yesm1ping" || h.Metrics["full"] != 1 || h.Counters["k"] != 2 || h.Model != "n" || h.Pool != "p" || h.Vault["token"] != "value" || len(h.Lines) != 1 {
		t.Errorf("got %+v, %v", h, err)
	}
}

// FuzzFacts: no metadata, whatever it claims of its lengths, makes a handler read what is not there; a head that is longer
// and records that are unknown change nothing.
func FuzzFacts(f *testing.F) {
	f.Add([]byte{16, 0, 0, 0}, "m")
	f.Add([]byte{200, 0, 0, 0, 1, 2, 3}, "")
	f.Fuzz(func(t *testing.T, meta []byte, model string) {
		n := uint32(copy(in[:], meta))
		_ = HandleToolCall(n, func(c *ToolCall) { c.SetArguments(string(c.Arguments()) + string(c.Name()) + string(c.Schema())) })
		_ = HandleUsage(n, func(u *Usage) { _ = u.Prompt() + u.Reasoning() })
		HandleEnd(n, func(e *End) { _ = e.First() + int64(e.Status()) })
		if len(model) > 1000 || len(meta) > 1000 {
			return
		}
		n, err := compose(abi.CallLength+len(meta), func(head []byte) { copy(head[abi.CallLength:], meta) }, func(r *records) {
			r.add(999, model, string(meta))
			r.add(abi.InToolName, "", model)
			r.add(1000, "", model)
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = HandleToolCall(n, func(c *ToolCall) {
			if string(c.Name()) != model {
				t.Errorf("got %q, want %q", c.Name(), model)
			}
		})
	})
}
