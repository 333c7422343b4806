// Package server takes calls over HTTP and writes their replies: it bounds what a caller may send and how
// slowly, hands each call to the current snapshot, flushes every event of a stream, and is the one place
// that turns a refusal into a status and an OpenAI error.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A Snapshot answers calls under one configuration. Release gives it back once the reply is closed.
// Refused tells it of a request that became no call, so that it is counted and logged like one.
type Snapshot interface {
	pipeline.Handler
	Refused(ctx context.Context, c *pipeline.Call, why *pipeline.Refusal)
	Release()
}

// A Server is the data listener.
type Server struct {
	config   atomic.Pointer[Config]
	snapshot func() Snapshot
	log      *slog.Logger
	http     *http.Server
	abort    context.CancelCauseFunc // ends the streams that outlive the drain limit
}

// New returns a server that asks snapshot for the current configuration at each call; snapshot never
// returns nil.
func New(c Config, snapshot func() Snapshot, log *slog.Logger) *Server {
	s := &Server{snapshot: snapshot, log: log}
	s.config.Store(&c)
	base, abort := context.WithCancelCause(context.Background())
	s.abort = abort
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler:                      s.guarded(s.routes()),
		ReadHeaderTimeout:            c.Timeouts.ReadHeader,
		IdleTimeout:                  c.Timeouts.Idle,
		WriteTimeout:                 c.Timeouts.Write,              // for what net/http itself writes; guarded and the printer see to the rest
		MaxHeaderBytes:               headerRoom * int(c.MaxHeader), // beyond it net/http refuses by itself, in plain text
		Protocols:                    protocols,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: 100},
		BaseContext:                  func(net.Listener) context.Context { return base },
		DisableGeneralOptionsHandler: true,
		ConnState:                    bufferLittle,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// headerRoom is how many times the header's limit is read at most, so that what is somewhat too large is
// refused in OpenAI's words, over HTTP/2 too.
const headerRoom = 4

// sendBuffer is how many bytes of a reply the system may hold that the caller has not taken. Left to itself it grows to
// megabytes for each stream whose caller is slow.
const sendBuffer = 128 << 10

func bufferLittle(c net.Conn, state http.ConnState) {
	if state != http.StateNew {
		return
	}
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(sendBuffer) // a hint
	}
}

// Configure makes the limits of c count for the calls that follow.
func (s *Server) Configure(c Config) { s.config.Store(&c) }

func (s *Server) routes() http.Handler {
	r := mux.NewRouter().SkipClean(true)
	for _, e := range llm.WithBody { // the router tries them in order
		r.Path(e.Path()).Methods(http.MethodPost).Handler(s.answer(e))
	}
	r.Path("/v1/models").Methods(http.MethodGet).Handler(s.answer(llm.Models))
	r.Path("/v1/models/{id:.+}").Methods(http.MethodGet).Handler(s.answer(llm.Models))
	r.NotFoundHandler = s.decline(&pipeline.Refusal{
		Kind: pipeline.NotFound, Stage: "server", Code: "unknown_url",
		Reason: "No such path. The gateway serves /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/responses, /v1/rerank, /v1/score, /tokenize and /v1/models.",
	})
	r.MethodNotAllowedHandler = http.HandlerFunc(s.wrongMethod)
	return r
}

func (s *Server) wrongMethod(w http.ResponseWriter, r *http.Request) {
	allow := http.MethodPost
	if strings.HasPrefix(r.URL.Path, "/v1/models") {
		allow = http.MethodGet
	}
	s.refuse(w, r, &pipeline.Refusal{
		Kind: pipeline.Invalid, Status: http.StatusMethodNotAllowed, Stage: "server", Code: "method_not_allowed",
		Reason: "This path does not take that method: send " + allow + ".", Header: map[string]string{"Allow": allow},
	})
}

// Serve answers calls from l until Shutdown; it returns nil after that.
func (s *Server) Serve(l net.Listener) error {
	t := s.config.Load().TLS
	var err error
	if t.Cert != "" {
		err = s.http.ServeTLS(l, t.Cert, t.Key)
	} else {
		err = s.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("server: %s: %w", l.Addr(), err)
}

// errStopping is the cause with which streams are ended at the drain limit; it says so to the caller too.
var errStopping = &pipeline.Refusal{Kind: pipeline.Unavailable, Stage: "server", Code: "stopping", Reason: "The gateway is stopping. Try again."}

// Shutdown takes no new connections and waits for running calls. Those still running when ctx ends get an
// error event and up to lastWords to take it.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err == nil {
		return nil
	}
	s.abort(errStopping)
	last, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	if s.http.Shutdown(last) != nil {
		_ = s.http.Close()
	}
	return fmt.Errorf("server: streams were cut at the drain limit: %w", err)
}

const lastWords = 5 * time.Second
