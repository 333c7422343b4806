package quota

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

func TestMain(m *testing.M) {
	// go-redis dials once more a second after its client is closed.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// A bench is a chain admit → reserve → backend with a clock of its own.
type bench struct {
	q       *Quota
	handler pipeline.Handler
	clock   atomic.Int64 // nanoseconds
}

// at is a moment ten seconds into a window.
var at = time.Unix(1_800_000_010, 0)

func newBench(t testing.TB, cfg Config, backend pipeline.Handler) *bench {
	t.Helper()
	if cfg.Store == "" {
		cfg.Store, cfg.WhenStoreDown, cfg.Replicas = "memory", "share", 1
	}
	if cfg.Completion.Default == 0 {
		cfg.Completion.Default = 100
	}
	q, err := New(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	b := &bench{q: q}
	b.clock.Store(at.UnixNano())
	q.share.now = func() time.Time { return time.Unix(0, b.clock.Load()) }
	admit, reserve := q.Stages(cfg)
	b.handler = pipeline.Chain(backend, admit, reserve)
	return b
}

func limits(requests, tokens int64) Config {
	return Config{Limits: Limits{Default: pipeline.Limits{Requests: requests, Tokens: tokens}}}
}

// call is a chat of some tokens from alice of acme.
func call(body string) *pipeline.Call {
	c := &pipeline.Call{ID: "x", Route: llm.Chat, Request: &llm.Request{N: 1, MaxTokens: -1}, Principal: &pipeline.Principal{ID: "alice", Tenant: "acme"}}
	if body != "" {
		if err := llm.ParseRequest(llm.Chat, []byte(body), c.Request); err != nil {
			panic(err)
		}
	}
	return c
}

// chat is a body whose answer may have n tokens; its prompt is priced at promptOfChat.
func chat(n int64) string {
	return fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":%d}`, n)
}

const promptOfChat = textTokens + 1

// used reads a counter of acme in the window now running.
func (b *bench) used(kind Kind, name string) int64 {
	r := &Reservation{Tenant: "acme", Charges: []Charge{{Counter: Counter{kind, name}, Limit: maxLimit}}}
	if err := b.q.store.Take(context.Background(), r); err != nil {
		panic(err)
	}
	return maxLimit - r.Charges[0].Left
}

// A backend answers with a stream that counts usage as it goes, one token a chunk.
type backend struct {
	tokens  int64 // chunks in all
	prompt  int64
	counted bool
}

func (b backend) Handle(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
	c.Outcome.Usage.Prompt, c.Outcome.Counted = b.prompt, b.counted
	return &llm.Reply{Status: 200, Header: http.Header{}, Stream: &ticker{backend: b, call: c, closed: make(chan struct{})}}, nil
}

type ticker struct {
	backend
	call   *pipeline.Call
	closed chan struct{}
	once   sync.Once
}

func (s *ticker) Next() (llm.Chunk, error) {
	select {
	case <-s.closed:
		return llm.Chunk{}, io.ErrClosedPipe
	default:
	}
	if s.call.Outcome.Usage.Completion == s.tokens {
		return llm.Chunk{}, io.EOF
	}
	s.call.Outcome.Usage.Completion++
	return llm.Chunk{Kind: llm.Event}, nil
}

func (s *ticker) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func refused(t *testing.T, err error) *pipeline.Refusal {
	t.Helper()
	var f *pipeline.Refusal
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a refusal", err)
	}
	return f
}

// drink reads a reply to its end and closes it.
func drink(t testing.TB, reply *llm.Reply) (chunks int64) {
	t.Helper()
	for {
		if _, err := reply.Stream.Next(); err != nil {
			break
		}
		chunks++
	}
	if err := reply.Stream.Close(); err != nil {
		t.Fatal(err)
	}
	return chunks
}

func TestRequestsAMinute(t *testing.T) {
	b := newBench(t, limits(2, 0), backend{})
	for i := range 2 {
		c := call(chat(1))
		reply, err := b.handler.Handle(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		drink(t, reply)
		want := map[string]string{"X-Ratelimit-Limit-Requests": "2", "X-Ratelimit-Remaining-Requests": fmt.Sprint(1 - i), "X-Ratelimit-Reset-Requests": "50s"}
		for name, value := range want {
			if got := reply.Header.Get(name); got != value {
				t.Errorf("call %d: %s is %q, want %q", i, name, got, value)
			}
		}
		if reply.Header.Get("X-Ratelimit-Limit-Tokens") != "" || c.Metered {
			t.Error("tokens are told of, or metered, though they have no limit")
		}
		if want := (pipeline.QuotaView{RequestsLeft: int64(1 - i), TokensLeft: -1}); c.Quota != want {
			t.Errorf("got %+v, want %+v", c.Quota, want)
		}
	}
	_, err := b.handler.Handle(context.Background(), call(chat(1)))
	f := refused(t, err)
	if f.Kind != pipeline.Exhausted || f.Code != "rate_limit_exceeded" || f.Retry != 50*time.Second || f.Header["X-Ratelimit-Remaining-Requests"] != "0" {
		t.Errorf("got %+v", f)
	}
	if f.Header["X-Should-Retry"] != "" {
		t.Error("a rate limit says not to retry")
	}
	b.clock.Add(int64(f.Retry))
	if _, err := b.handler.Handle(context.Background(), call(chat(1))); err != nil {
		t.Errorf("after waiting as long as told: %v", err)
	}
}

func TestTokensAMinute(t *testing.T) {
	b := newBench(t, limits(0, 100), backend{tokens: 10, prompt: 7, counted: true})
	c := call(chat(60))
	reply, err := b.handler.Handle(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := b.used(KeyTokens, "alice"), int64(60+promptOfChat); got != want || !c.Metered {
		t.Errorf("reserved %d, want %d; metered %v", got, want, c.Metered)
	}
	if got := reply.Header.Get("X-Ratelimit-Remaining-Tokens"); got != "35" {
		t.Errorf("told %q tokens left, want 35", got)
	}
	_, err = b.handler.Handle(context.Background(), call(chat(60)))
	f := refused(t, err)
	if f.Code != "rate_limit_exceeded" || f.Retry != 50*time.Second || f.Header["X-Ratelimit-Remaining-Tokens"] != "35" || f.Header["X-Ratelimit-Limit-Tokens"] != "100" {
		t.Errorf("got %+v", f)
	}
	drink(t, reply)
	if got := b.used(KeyTokens, "alice"); got != 17 {
		t.Errorf("settled to %d, want 17", got)
	}
	reply, err = b.handler.Handle(context.Background(), call(chat(60)))
	if err != nil {
		t.Fatalf("what was not used did not come free: %v", err)
	}
	drink(t, reply)
}

// TestExhaustedTokensAreRefusedEarly keeps plugins and policy from working for a caller without tokens.
func TestExhaustedTokensAreRefusedEarly(t *testing.T) {
	cfg := limits(10, 50)
	b := newBench(t, cfg, backend{tokens: 60})
	reply, err := b.handler.Handle(context.Background(), call(chat(40)))
	if err != nil {
		t.Fatal(err)
	}
	drink(t, reply)
	admit, _ := b.q.Stages(cfg)
	_, err = admit.Handle(context.Background(), call(""), pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		t.Error("the call went on")
		return nil, nil
	}))
	refused(t, err)
	if got := b.used(KeyRequests, "alice"); got != 1 {
		t.Errorf("the refused call was counted: %d requests", got)
	}
	models := call("")
	models.Route = llm.Models
	if _, err := admit.Handle(context.Background(), models, backend{}); err != nil {
		t.Errorf("the list of models was refused for want of tokens: %v", err)
	}
}

// TestParallelBurst is A7: 1,000 at once against a budget for 100.
func TestParallelBurst(t *testing.T) {
	for name, cfg := range map[string]Config{"requests": limits(100, 0), "tokens": limits(0, 100*(10+promptOfChat))} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, cfg, backend{tokens: 10, prompt: promptOfChat, counted: true})
			var admitted atomic.Int64
			replies := make(chan *llm.Reply, 1000)
			var wg sync.WaitGroup
			for range 1000 {
				wg.Go(func() {
					reply, err := b.handler.Handle(context.Background(), call(chat(10)))
					if err == nil {
						admitted.Add(1)
						replies <- reply
					}
				})
			}
			wg.Wait()
			close(replies)
			if admitted.Load() != 100 {
				t.Errorf("admitted %d, want 100", admitted.Load())
			}
			for reply := range replies {
				drink(t, reply)
			}
		})
	}
}

// TestAbort is A8 and C-26: a stream that is left anywhere, from any goroutine, pays for what was
// delivered, once (LiteLLM #33736).
func TestAbort(t *testing.T) {
	const calls, prompt, tokens = 1000, 7, 50
	b := newBench(t, limits(0, maxLimit), backend{tokens: tokens, prompt: prompt, counted: true})
	random := rand.New(rand.NewPCG(1, 2))
	var delivered atomic.Int64
	var outcomes []*pipeline.Call
	var wg sync.WaitGroup
	for range calls {
		c := call(chat(tokens))
		outcomes = append(outcomes, c)
		reply, err := b.handler.Handle(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		read, aside, stop := random.IntN(tokens+2), random.IntN(2) == 0, make(chan struct{})
		wg.Go(func() {
			if aside { // Close comes while Next runs
				wg.Go(func() { <-stop; reply.Stream.Close() })
			}
			for i := range read {
				if i == read/2 && aside {
					close(stop)
				}
				if _, err := reply.Stream.Next(); err != nil {
					break
				}
				delivered.Add(1)
			}
			if aside && read == 0 {
				close(stop)
			}
			reply.Stream.Close()
			reply.Stream.Close()
		})
	}
	wg.Wait()
	charged, want := b.used(KeyTokens, "alice"), int64(0)
	for _, c := range outcomes {
		want += c.Outcome.Usage.Prompt + c.Outcome.Usage.Completion
	}
	if charged != want || charged < delivered.Load()+calls*prompt {
		t.Errorf("charged %d, want %d and at least %d", charged, want, delivered.Load()+calls*prompt)
	}
}

// TestDeliveredStaysWithinBudget is the property behind S-28: whatever the shape of the calls and
// wherever they end, what is delivered in a window is charged in full and never more than the limit.
func TestDeliveredStaysWithinBudget(t *testing.T) {
	const limit = 20_000
	b := newBench(t, limits(0, limit), nil)
	_, reserve := b.q.Stages(limits(0, limit))
	var delivered, admitted atomic.Int64
	var wg sync.WaitGroup
	for worker := range 8 {
		random := rand.New(rand.NewPCG(3, uint64(worker)))
		wg.Go(func() {
			for range 500 {
				n, most := 1+random.Int64N(4), 1+random.Int64N(100)
				c := call(fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":%d,"n":%d}`, most, n))
				answer := backend{tokens: random.Int64N(n*most + 1), prompt: promptOfChat, counted: random.IntN(2) == 0}
				reply, err := pipeline.Chain(answer, reserve).Handle(context.Background(), c)
				if err != nil {
					continue
				}
				admitted.Add(1)
				for range random.Int64N(n*most + 1) {
					if _, err := reply.Stream.Next(); err != nil {
						break
					}
				}
				reply.Stream.Close()
				delivered.Add(c.Outcome.Usage.Prompt + c.Outcome.Usage.Completion)
			}
		})
	}
	wg.Wait()
	if got := b.used(KeyTokens, "alice"); got != delivered.Load() || got > limit || got < limit/2 {
		t.Errorf("charged %d and delivered %d of %d in %d calls", got, delivered.Load(), limit, admitted.Load())
	}
}

// TestFailures: what ends before anything was generated costs no tokens; the request stays counted.
func TestFailures(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name    string
		backend pipeline.HandlerFunc
		want    int64
	}{
		{"an error", func(context.Context, *pipeline.Call) (*llm.Reply, error) { return nil, broken }, 0},
		{"an error with the prompt's estimate", func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
			c.Outcome.Usage.Prompt = 9
			return nil, broken
		}, 0},
		{"an error after some output", func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
			c.Outcome.Usage = llm.Usage{Prompt: 9, Completion: 3}
			return nil, broken
		}, 12},
		{"a panic", func(context.Context, *pipeline.Call) (*llm.Reply, error) { panic("broken") }, 0},
		{"a stream that is never read", func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
			return backend{prompt: 9}.Handle(context.Background(), c)
		}, 9},
		{"explicit zero usage", func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) { // LiteLLM #37992
			return backend{counted: true}.Handle(context.Background(), c)
		}, 0},
		{"negative usage is no credit", func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) { // new-api CVE-2026-71479
			return backend{prompt: -5000, tokens: 3, counted: true}.Handle(context.Background(), c)
		}, 0},
		{"usage beyond all bounds", func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
			return backend{prompt: math.MaxInt64, counted: true}.Handle(context.Background(), c)
		}, maxLimit / 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, limits(5, maxLimit), tt.backend)
			func() {
				defer func() { _ = recover() }()
				reply, err := b.handler.Handle(context.Background(), call(chat(50)))
				if err == nil {
					reply.Stream.Close()
				}
			}()
			if got := b.used(KeyTokens, "alice"); got != tt.want {
				t.Errorf("charged %d, want %d", got, tt.want)
			}
			if got := b.used(KeyRequests, "alice"); got != 1 {
				t.Errorf("counted %d requests, want 1", got)
			}
		})
	}
}

// TestCloseWakesNext: Close from another goroutine ends a Next that waits, and settles after it.
func TestCloseWakesNext(t *testing.T) {
	closed := make(chan struct{})
	b := newBench(t, limits(0, 1000), pipeline.HandlerFunc(func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
		return &llm.Reply{Stream: &stuck{call: c, closed: closed, waiting: make(chan struct{}, 1)}}, nil
	}))
	reply, err := b.handler.Handle(context.Background(), call(chat(50)))
	if err != nil {
		t.Fatal(err)
	}
	waiting := reply.Stream.(*meter).stream.(*stuck).waiting
	done := make(chan error)
	go func() { _, err := reply.Stream.Next(); done <- err }()
	<-waiting
	reply.Stream.Close()
	if err := <-done; err == nil {
		t.Error("Next gave a chunk after Close")
	}
	if got := b.used(KeyTokens, "alice"); got != 42 {
		t.Errorf("charged %d, want the 42 that Next noted when it was woken", got)
	}
}

type stuck struct {
	call            *pipeline.Call
	closed, waiting chan struct{}
}

func (s *stuck) Next() (llm.Chunk, error) {
	s.waiting <- struct{}{}
	<-s.closed
	time.Sleep(10 * time.Millisecond)
	s.call.Outcome.Usage.Completion = 42
	return llm.Chunk{}, io.ErrClosedPipe
}

func (s *stuck) Close() error { close(s.closed); return nil }

// refusedShape says that a call asks for more than any window has.
const refusedShape = -1

// TestShapes is S-28: what is reserved is never less than what the backend may deliver.
func TestShapes(t *testing.T) {
	const limit = 1_000_000
	huge := int64(math.MaxInt64)
	tests := []struct {
		name  string
		route llm.Endpoint
		body  string
		set   pipeline.Set
		want  int64
	}{
		{"plain", llm.Chat, chat(20), pipeline.Set{}, 20 + promptOfChat},
		{"no maximum", llm.Chat, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, pipeline.Set{}, 100 + promptOfChat},
		{"no maximum, known model", llm.Chat, `{"model":"big","messages":[{"role":"user","content":"hi"}]}`, pipeline.Set{}, 500 + promptOfChat},
		{"policy chose the model", llm.Chat, `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, pipeline.Set{Model: "big"}, 500 + promptOfChat},
		{"policy set a lower maximum", llm.Chat, chat(20), pipeline.Set{MaxTokens: 10}, 10 + promptOfChat},
		{"n", llm.Chat, `{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":20,"n":5}`, pipeline.Set{}, 100 + promptOfChat},
		{"huge maximum", llm.Chat, chat(1 << 53), pipeline.Set{}, refusedShape},
		{"policy set a huge maximum", llm.Chat, chat(1), pipeline.Set{MaxTokens: huge}, 1 + promptOfChat},
		{"n times huge", llm.Chat, fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":%d,"n":128}`, int64(1)<<53), pipeline.Set{}, refusedShape},
		{"best_of", llm.Completions, `{"model":"m","prompt":"hi","max_tokens":20,"n":1,"best_of":7}`, pipeline.Set{}, 140 + promptOfChat},
		{"list of prompts", llm.Completions, `{"model":"m","prompt":["hi","hi","hi"],"max_tokens":20,"n":2}`, pipeline.Set{}, 120 + 3*promptOfChat},
		{"embeddings", llm.Embeddings, `{"model":"m","input":["hi","hi"]}`, pipeline.Set{}, 2 * promptOfChat},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := limits(0, limit)
			cfg.Completion = Completion{Default: 100, Models: map[string]int64{"big": 500}}
			b := newBench(t, cfg, backend{})
			c := call("")
			c.Route, c.Decision.Set = tt.route, tt.set
			if err := llm.ParseRequest(tt.route, []byte(tt.body), c.Request); err != nil {
				t.Fatal(err)
			}
			reply, err := b.handler.Handle(context.Background(), c)
			if tt.want == refusedShape {
				if f := refused(t, err); f.Header["X-Should-Retry"] != "false" || b.used(KeyTokens, "alice") != 0 {
					t.Errorf("got %+v, want a refusal that says not to retry, and nothing reserved", f)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := b.used(KeyTokens, "alice"); got != tt.want {
				t.Errorf("reserved %d, want %d", got, tt.want)
			}
			reply.Stream.Close()
			if got := b.used(KeyTokens, "alice"); got != 0 {
				t.Errorf("%d are left after nothing was used", got)
			}
		})
	}
}

// TestTimes: products never wrap round into something small or negative.
func TestTimes(t *testing.T) {
	for _, tt := range []struct{ a, b, want int64 }{
		{3, 4, 12}, {0, 9, 0}, {-1, 9, 0}, {9, -1, 0}, {math.MaxInt64, math.MaxInt64, maxLimit}, {math.MinInt64, 1, 0},
		{maxLimit, 1, maxLimit}, {maxLimit, 2, maxLimit}, {1 << 40, 1 << 40, maxLimit},
	} {
		if got := times(tt.a, tt.b); got != tt.want {
			t.Errorf("times(%d, %d) is %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func FuzzPrice(f *testing.F) {
	f.Add(int64(1), int64(10), int64(0), int64(1000), "hello")
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), int64(1), "")
	f.Fuzz(func(t *testing.T, n, most, set, limit int64, text string) {
		limit = max(1, min(limit, maxLimit))
		s := &reservation{&keeper{config: limits(0, limit)}}
		s.config.Completion.Default = 100
		c := call("")
		c.Request.N, c.Request.MaxTokens, c.Decision.Set.MaxTokens = n, most, set
		c.Request.Body = []byte(text)
		c.Request.Texts = []llm.Text{{At: llm.Span{End: len(text)}}}
		r := &claim{}
		r.charge(c, "alice", limit)
		prompt := s.price(r, c)
		if amount := r.Charges[0].Amount; amount < 0 || amount > limit || prompt < textTokens || amount < min(prompt, limit) {
			t.Errorf("reserves %d of %d for a prompt of %d", amount, limit, prompt)
		}
	})
}

func TestOversized(t *testing.T) {
	b := newBench(t, limits(0, 50), backend{})
	_, err := b.handler.Handle(context.Background(), call(`{"model":"m","messages":[{"role":"user","content":"`+strings.Repeat("word ", 100)+`"}]}`))
	f := refused(t, err)
	if f.Kind != pipeline.Exhausted || f.Retry != 0 || f.Header["X-Should-Retry"] != "false" {
		t.Errorf("got %+v, want a 429 that is not tried again", f)
	}
	if got := b.used(KeyTokens, "alice"); got != 0 {
		t.Errorf("it was charged %d", got)
	}
}

func TestWhoseLimits(t *testing.T) {
	cfg := limits(1, 0)
	cfg.Limits.Tiers = map[string]pipeline.Limits{"gold": {Requests: 3}, "free": {}}
	tests := []struct {
		name string
		who  *pipeline.Principal
		want int // calls that pass; 10: all
	}{
		{"nobody", nil, 1},
		{"no tier", &pipeline.Principal{ID: "a", Tenant: "t"}, 1},
		{"unknown tier", &pipeline.Principal{ID: "b", Tenant: "t", Tier: "lead"}, 1},
		{"tier", &pipeline.Principal{ID: "c", Tenant: "t", Tier: "gold"}, 3},
		{"tier without limits", &pipeline.Principal{ID: "d", Tenant: "t", Tier: "free"}, 10},
		{"its own before its tier's", &pipeline.Principal{ID: "e", Tenant: "t", Tier: "gold", Limits: &pipeline.Limits{Requests: 2}}, 2},
		{"its own: none", &pipeline.Principal{ID: "f", Tenant: "t", Tier: "gold", Limits: &pipeline.Limits{}}, 10},
		{"another of the same id", &pipeline.Principal{ID: "c", Tenant: "u", Tier: "gold"}, 3},
	}
	b := newBench(t, cfg, backend{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			passed := 0
			for range 10 {
				c := call("")
				c.Principal = tt.who
				if reply, err := b.handler.Handle(context.Background(), c); err == nil {
					reply.Stream.Close()
					passed++
				}
			}
			if passed != tt.want {
				t.Errorf("%d of 10 passed, want %d", passed, tt.want)
			}
		})
	}
}

func TestDecisionLimits(t *testing.T) {
	b := newBench(t, Config{}, backend{tokens: 5, prompt: 1, counted: true})
	ask := func(who, tenant string, limits ...pipeline.Limit) error {
		c := call(chat(10))
		c.Principal = &pipeline.Principal{ID: who, Tenant: tenant}
		c.Decision.Limits = limits
		reply, err := b.handler.Handle(context.Background(), c)
		if err != nil {
			return err
		}
		if !c.Metered && limits[0].Tokens > 0 || reply.Header.Get("X-Ratelimit-Limit-Tokens") != "" {
			t.Error("not metered, or a policy's limit is shown to the caller")
		}
		drink(t, reply)
		return nil
	}
	two := pipeline.Limit{Key: "gpu", Requests: 2}
	for i, tt := range []struct {
		who, tenant string
		pass        bool
	}{{"a", "acme", true}, {"b", "acme", true}, {"a", "acme", false}, {"a", "other", true}} {
		if err := ask(tt.who, tt.tenant, two); (err == nil) != tt.pass {
			t.Errorf("call %d: got %v, want passed %v", i, err, tt.pass)
		}
	}
	if err := ask("a", "acme", pipeline.Limit{Key: "t", Tokens: 100}, pipeline.Limit{Key: "u", Tokens: 50}); err != nil {
		t.Error(err)
	}
	if got := b.used(PolicyTokens, "t"); got != 6 {
		t.Errorf("settled %d on a policy's limit, want 6", got)
	}
	// The same key twice is the tighter one, not two that each see all of it free.
	if err := ask("a", "acme", pipeline.Limit{Key: "v", Tokens: 15}, pipeline.Limit{Key: "v", Tokens: 100}); err != nil {
		t.Error(err)
	}
	if got := b.used(PolicyTokens, "v"); got != 6 {
		t.Errorf("a key named twice was charged %d, want 6", got)
	}
	if err := ask("a", "acme", pipeline.Limit{Key: "w"}); err != nil {
		t.Errorf("a limit without numbers refused: %v", err)
	}
}

// TestRefusalOfReserve carries the figures of both stages.
func TestRefusalOfReserve(t *testing.T) {
	b := newBench(t, limits(5, 20), backend{})
	first, err := b.handler.Handle(context.Background(), call(chat(10)))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Stream.Close()
	_, err = b.handler.Handle(context.Background(), call(chat(10)))
	f := refused(t, err)
	for name, want := range map[string]string{
		"X-Ratelimit-Limit-Requests": "5", "X-Ratelimit-Remaining-Requests": "3", "X-Ratelimit-Reset-Requests": "50s",
		"X-Ratelimit-Limit-Tokens": "20", "X-Ratelimit-Remaining-Tokens": "5", "X-Ratelimit-Reset-Tokens": "50s",
	} {
		if f.Header[name] != want {
			t.Errorf("%s is %q, want %q", name, f.Header[name], want)
		}
	}
}

func TestResetText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Millisecond: "1s", time.Second: "1s", 1001 * time.Millisecond: "2s", time.Minute: "1m0s", time.Hour: "1m0s", -1: "0s",
	} {
		if got := resetText(d); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
}

func TestMemoryClockSetBack(t *testing.T) {
	now := at
	m := NewMemory(func() time.Time { return now })
	r := func() *Reservation {
		r := &Reservation{Tenant: "a", Charges: []Charge{{Limit: 1, Amount: 1}}}
		if err := m.Take(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if !r().Taken {
		t.Fatal("the first did not fit")
	}
	for _, step := range []time.Duration{-20 * time.Second, 20 * time.Second, 40 * time.Second} {
		now = now.Add(step)
		if r().Taken {
			t.Errorf("after a step of %v the window was emptied again", step)
		}
	}
	now = now.Add(20 * time.Second)
	if !r().Taken {
		t.Error("the next window is not empty")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := NewMemory(func() time.Time { return at })
	var full error
	for i := 0; i <= maxCounters && full == nil; i++ {
		full = m.Take(context.Background(), &Reservation{Tenant: "a", Charges: []Charge{{Counter: Counter{KeyTokens, fmt.Sprint(i)}, Limit: 1, Amount: 1}}})
	}
	if !errors.Is(full, errFull) {
		t.Errorf("got %v, want errFull", full)
	}
	if len(m.shard("a").used) > maxCounters {
		t.Errorf("%d counters in one shard", len(m.shard("a").used))
	}
	if err := m.Take(context.Background(), &Reservation{Tenant: "a", Charges: []Charge{{Counter: Counter{KeyTokens, "0"}, Limit: 5, Amount: 1}}}); err != nil {
		t.Errorf("a counter that is there already was refused: %v", err)
	}
}

func BenchmarkStages(b *testing.B) {
	next := pipeline.HandlerFunc(func(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
		return &llm.Reply{Header: make(http.Header, 8), Stream: llm.One(llm.Chunk{})}, nil
	})
	text := strings.Repeat("word ", 200)
	request := &llm.Request{}
	if err := llm.ParseRequest(llm.Chat, []byte(`{"model":"m","messages":[{"role":"user","content":"`+text+`"}]}`), request); err != nil {
		b.Fatal(err)
	}
	for name, cfg := range map[string]Config{"none": {}, "admit": limits(maxLimit, 0), "both": limits(maxLimit, maxLimit)} {
		b.Run(name, func(b *testing.B) {
			handler := newBench(b, cfg, next).handler
			who := &pipeline.Principal{ID: "alice", Tenant: "acme"}
			b.ReportAllocs()
			for b.Loop() {
				c := &pipeline.Call{Route: llm.Chat, Request: request, Principal: who}
				reply, err := handler.Handle(context.Background(), c)
				if err != nil {
					b.Fatal(err)
				}
				reply.Stream.Close()
			}
		})
	}
}
