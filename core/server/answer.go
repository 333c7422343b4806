package server

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gorilla/mux"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// answer handles one route: the request becomes a call, the snapshot answers it, the reply is written.
func (s *Server) answer(route llm.Endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		snapshot := s.snapshot()
		defer snapshot.Release()
		cfg := s.config.Load()
		x := &exchange{w: w, r: r, config: cfg}
		c := x.begin(route)
		defer x.out.recover(s)
		reply, err := snapshot.Handle(r.Context(), c)
		if err != nil {
			s.failCall(x, err)
			return
		}
		defer reply.Stream.Close()
		s.write(x, c, reply)
	})
}

// An exchange is one HTTP request while it is answered; it reads the body when the chain asks for it.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	config  *Config
	control *http.ResponseController
	call    pipeline.Call
	request llm.Request
	out     printer
	wait    patience
}

func (x *exchange) begin(route llm.Endpoint) *pipeline.Call {
	x.control = http.NewResponseController(x.w)
	x.out.x = x
	x.request.Endpoint = route
	x.request.MaxTokens, x.request.N = -1, 1
	x.call = pipeline.Call{
		ID: x.w.Header().Get("X-Request-Id"), Start: time.Now(), Route: route, Method: x.r.Method,
		Path: x.r.URL.Path, Query: x.r.URL.RawQuery, Remote: host(x.r.RemoteAddr), Header: x.r.Header, Request: &x.request,
		Quota: pipeline.QuotaView{RequestsLeft: -1, TokensLeft: -1},
	}
	switch route {
	case llm.Models:
		x.call.Model = mux.Vars(x.r)["id"]
		if x.r.ContentLength != 0 {
			closeAfter(x.w, x.r) // nobody reads it
		}
	case llm.Other: // nothing of it is read
	default:
		x.call.Body, x.call.Waiter = x, x
	}
	return &x.call
}

// newID returns a fresh request id. It need not be secret, only unique.
func newID() string {
	var b [4 + 32]byte
	copy(b[:], "req-")
	var raw [16]byte
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		raw[i], raw[8+i] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	hex.Encode(b[4:], raw[:])
	return string(b[:])
}

func host(address string) string {
	h, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return h
}

func stack() string { return string(debug.Stack()) }

// ReadBody is the stage that reads and parses the body of a call, once it is known who calls.
type ReadBody struct{}

var _ pipeline.Stage = ReadBody{}

// Handle reads the body and passes the call on.
func (ReadBody) Handle(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	if c.Body != nil {
		if err := c.Body.ReadInto(c.Request); err != nil {
			return nil, err
		}
	}
	return next.Handle(ctx, c)
}
