package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// While a call waits for a backend, its caller hears comments. What comes then comes as if nothing had been said, but
// for the status, which is 200 by then: an error is told in the stream, which ends without [DONE] and short.
func TestComments(t *testing.T) {
	done := llm.Chunk{Kind: llm.Done, Raw: []byte("data: [DONE]\n\n")}
	stream := func(chunks ...llm.Chunk) *llm.Reply {
		e := &events{chunks: make(chan llm.Chunk, len(chunks)), err: io.EOF}
		for _, c := range chunks {
			e.chunks <- c
		}
		close(e.chunks)
		return e.reply()
	}
	failing := func() *llm.Reply {
		e := &events{chunks: make(chan llm.Chunk), err: &pipeline.Refusal{Kind: pipeline.BadGateway, Code: "bad_backend_answer", Reason: "It broke."}}
		close(e.chunks)
		return e.reply()
	}
	for _, tt := range []struct {
		name  string
		reply func() (*llm.Reply, error)
		want  string // after the comments
		cut   bool
	}{
		{"a stream", func() (*llm.Reply, error) { return stream(event(`{"a":1}`), done), nil }, "data: {\"a\":1}\n\ndata: [DONE]\n\n", false},
		{"a stream that begins with nothing", func() (*llm.Reply, error) { return stream(llm.Chunk{Kind: llm.Event}, event(`{"a":1}`), done), nil }, "data: {\"a\":1}\n\ndata: [DONE]\n\n", false},
		{"a refusal", func() (*llm.Reply, error) {
			return nil, &pipeline.Refusal{Kind: pipeline.GatewayTimeout, Code: "first_token_timeout", Reason: "Too late."}
		}, `data: {"error":{"message":"Too late.","type":"server_error","param":null,"code":"first_token_timeout"}}` + "\n\n", true},
		{"a fault", func() (*llm.Reply, error) { return nil, errors.New("secret") }, `"code":"internal_error"`, true},
		{"the backend's own error", func() (*llm.Reply, error) {
			body := []byte(`{"error":{"message":"Slow down.","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}`)
			return &llm.Reply{Status: 429, Header: http.Header{"Content-Type": {"application/json"}}, Stream: llm.One(llm.Chunk{Raw: body, Data: body, Kind: llm.Body})}, nil
		}, `data: {"error":{"message":"Slow down.","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}` + "\n\n", true},
		{"a panic", func() (*llm.Reply, error) { panic("secret") }, `"code":"internal_error"`, true},
		{"a body that is no error", func() (*llm.Reply, error) { return whole(200, `{"secret":true}`), nil }, `"code":"internal_error"`, true},
		{"a stream that fails before its first event", func() (*llm.Reply, error) { return failing(), nil }, `"code":"bad_backend_answer"`, true},
	} {
		for _, second := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", tt.name, second), func(t *testing.T) {
				comments(t, tt.reply, tt.want, tt.cut, second)
			})
		}
	}
}

func comments(t *testing.T, reply func() (*llm.Reply, error), want string, cut, second bool) {
	c := defaults
	c.KeepAlive = 20 * time.Millisecond
	heard := make(chan struct{})
	address := start(t, c, func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
		c.Waiter.WaitBegins()
		c.Outcome.Backend = "one" // as upstream does meanwhile
		<-heard
		c.Outcome.Backend = "two"
		c.Waiter.WaitEnds()
		return reply()
	})
	response := send(t, address, second)
	defer response.Body.Close()
	first := make([]byte, len(": keep-alive\n\n: keep-alive\n\n"))
	if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != ": keep-alive\n\n: keep-alive\n\n" {
		t.Fatalf("heard %q, %v", first, err)
	}
	close(heard)
	rest, err := io.ReadAll(response.Body)
	got := strings.TrimLeft(strings.ReplaceAll(string(rest), ": keep-alive\n\n", ""), "\n")
	if !strings.Contains(got, want) || !strings.HasPrefix(got, "data: ") || (err != nil) != cut || strings.Contains(got, "secret") {
		t.Errorf("then %q, %v", got, err)
	}
	if h := response.Header; response.StatusCode != 200 || !strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") || h.Get("X-Request-Id") == "" || h.Get("Cache-Control") != "no-cache" || h.Get("X-Nexus-Backend") != "" {
		t.Errorf("status %d, %v", response.StatusCode, h)
	}
}

func send(t *testing.T, address string, second bool) *http.Response {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+address+"/v1/chat/completions", strings.NewReader(`{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	client := http.DefaultClient
	if second {
		p := new(http.Protocols)
		p.SetUnencryptedHTTP2(true)
		transport := &http.Transport{Protocols: p}
		t.Cleanup(transport.CloseIdleConnections)
		client = &http.Client{Transport: transport}
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// Without comments, or before the first is due, the status is held.
func TestStatusIsHeld(t *testing.T) {
	for _, every := range []time.Duration{0, time.Hour} {
		c := defaults
		c.KeepAlive = every
		address := start(t, c, func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
			c.Waiter.WaitBegins()
			time.Sleep(50 * time.Millisecond)
			c.Waiter.WaitEnds()
			return nil, &pipeline.Refusal{Kind: pipeline.GatewayTimeout, Code: "first_token_timeout", Reason: "Too late."}
		})
		response := send(t, address, false)
		_ = response.Body.Close()
		if response.StatusCode != 504 {
			t.Errorf("every %v: status %d, want 504", every, response.StatusCode)
		}
	}
}

// Chunks that hold nothing for the caller, because a plugin keeps their text back, do not leave it in silence either.
func TestCommentsWhileTextIsHeldBack(t *testing.T) {
	c := defaults
	c.KeepAlive = 20 * time.Millisecond
	for _, first := range []string{"", "data: {}\n\n"} {
		e := &events{chunks: make(chan llm.Chunk), err: io.EOF}
		stop := make(chan struct{})
		go func() {
			defer close(e.chunks)
			e.chunks <- llm.Chunk{Kind: llm.Event, Raw: []byte(first)}
			for {
				select {
				case e.chunks <- llm.Chunk{Kind: llm.Event}:
					time.Sleep(2 * time.Millisecond)
				case <-stop:
					return
				}
			}
		}()
		address := start(t, c, func(context.Context, *pipeline.Call) (*llm.Reply, error) { return e.reply(), nil })
		response := send(t, address, false)
		want := first + ": keep-alive\n\n: keep-alive\n\n"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != want {
			t.Errorf("heard %q, %v", got, err)
		}
		close(stop)
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
}

// A caller that leaves while it is sent comments ends the call; the call's end and comments may race as they like.
func TestCommentsRaceWithTheEnd(t *testing.T) {
	c := defaults
	c.KeepAlive = time.Millisecond
	address := start(t, c, func(ctx context.Context, c *pipeline.Call) (*llm.Reply, error) {
		c.Waiter.WaitBegins()
		defer c.Waiter.WaitEnds()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(rand.N(4 * time.Millisecond)):
		}
		return nil, &pipeline.Refusal{Kind: pipeline.Unavailable, Reason: "No."}
	})
	for i := range 100 {
		ctx, leave := context.WithCancel(context.Background())
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/v1/chat/completions", strings.NewReader(`{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if i%2 == 0 {
			time.AfterFunc(time.Duration(i%5)*time.Millisecond, leave)
		}
		if response, err := http.DefaultClient.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		leave()
	}
}
