package mock

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Kind is the engine a Server looks like.
type Kind string

const (
	VLLM   Kind = "vllm"
	SGLang Kind = "sglang"
)

// Options say what a Server is. The zero value is a vLLM that answers for the model "mock", 32 tokens
// at once.
type Options struct {
	Kind       Kind          // vllm unless set
	Models     []string      // names it answers for; "mock" unless set. A name ending in "echo" repeats the last user message, one ending in "think" reasons first.
	Tokens     int           // words in an answer; 32 unless set
	Think      int           // words of reasoning when asked for; 8 unless set
	Pace       time.Duration // wait before each event of a stream; a whole answer waits for all of them
	TTFT       time.Duration // wait before the first event
	Prefill    time.Duration // wait more, for each prompt id that the prefix cache does not hold
	Cache      int           // blocks of 64 ids the prefix cache holds; 4096 unless set
	Slots      int           // calls answered at a time, others wait; 0: all
	Queue      int           // calls waiting at most before a 503; 0: any number. Counts with Slots only.
	KeepAlive  time.Duration // a connection idle this long is closed hard, 5 s unless set, as both engines do
	MaxContext int           // ids in a prompt; 1 << 20 unless set
	Record     int           // requests kept for Requests; 64 unless set, negative for none
	RequestIDs bool          // answer with the x-request-id that was sent (vLLM's --enable-request-id-headers)
	Script     string        // how replies go unless the request says otherwise, as in a directive
}

func (o Options) filled() Options {
	if o.Kind == "" {
		o.Kind = VLLM
	}
	if len(o.Models) == 0 {
		o.Models = []string{"mock"}
	}
	for _, d := range []struct {
		to *int
		is int
	}{{&o.Tokens, 32}, {&o.Think, 8}, {&o.Cache, 4096}, {&o.MaxContext, 1 << 20}, {&o.Record, 64}} {
		if *d.to == 0 {
			*d.to = d.is
		}
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = 5 * time.Second
	}
	return o
}

// A Server is one backend. It is an http.Handler; Listen, Run and Serve put it on sockets with the
// engines' keep-alive manners.
type Server struct {
	opts    Options
	routes  map[string]http.HandlerFunc
	created int64
	ids     atomic.Uint64
	slots   chan struct{}
	counts  counts
	health  atomic.Int32 // status of /health; 0: 200

	mu       sync.Mutex // guards what follows
	script   script
	once     map[string]bool
	cache    prefixCache
	requests []Request
	ports    map[*Port]bool
}

// New makes a server; it listens nowhere yet. A Script that does not parse is an error.
func New(o Options) (*Server, error) {
	o = o.filled()
	s := &Server{opts: o, created: time.Now().Unix(), once: map[string]bool{}, ports: map[*Port]bool{}}
	if o.Kind != VLLM && o.Kind != SGLang {
		return nil, errors.New("mock: kind is vllm or sglang, not " + string(o.Kind))
	}
	if o.Slots > 0 {
		s.slots = make(chan struct{}, o.Slots)
	}
	s.cache.limit = o.Cache
	if err := s.SetScript(o.Script); err != nil {
		return nil, err
	}
	s.routes = s.table()
	return s, nil
}

// SetScript changes how replies go from now on, in the words of a directive: "tokens=60 pace=20ms
// fault=die-after=5". Empty text goes back to Options. Faults marked once are fresh again.
func (s *Server) SetScript(text string) error {
	sc := script{tokens: s.opts.Tokens, think: s.opts.Think, per: 1, pace: s.opts.Pace, ttft: s.opts.TTFT}
	if err := sc.parse(text); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = sc
	clear(s.once)
	return nil
}

// SetHealth makes /health answer status.
func (s *Server) SetHealth(status int) { s.health.Store(int32(status)) }

func (s *Server) table() map[string]http.HandlerFunc {
	t := map[string]http.HandlerFunc{
		"POST /v1/chat/completions": s.chat,
		"POST /v1/completions":      s.completions,
		"POST /v1/responses":        s.responses,
		"POST /v1/embeddings":       s.embeddings,
		"POST /v1/rerank":           s.rerank,
		"POST /v1/score":            s.score,
		"POST /tokenize":            s.tokenize,
		"GET /v1/models":            s.models,
		"GET /health":               s.healthz,
		"GET /ping":                 s.healthz,
		"GET /version":              s.version,
		"GET /metrics":              s.metrics,
		"GET /mock/requests":        s.adminRequests,
		"GET /mock/stats":           s.adminStats,
		"POST /mock/script":         s.adminScript,
		"POST /mock/health":         s.adminHealth,
	}
	if s.opts.Kind == SGLang {
		t["GET /v1/loads"] = s.loads
		t["GET /health_generate"] = s.healthz
	}
	return t
}

// ServeHTTP answers as the engine would; see the package comment.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()["Server"] = uvicorn
	if h, ok := s.routes[r.Method+" "+r.URL.Path]; ok {
		h(w, r)
		return
	}
	status := http.StatusNotFound
	for route := range s.routes {
		if _, path, _ := strings.Cut(route, " "); path == r.URL.Path {
			status = http.StatusMethodNotAllowed
		}
	}
	// The framework's own answer, not the engine's envelope.
	reply(w, status, `{"detail":"`+http.StatusText(status)+`"}`)
}

var (
	uvicorn     = []string{"uvicorn"}
	jsonType    = []string{"application/json"}
	streamType  = []string{"text/event-stream; charset=utf-8"}
	htmlType    = []string{"text/html"}
	gzipContent = []string{"gzip"}
)
