// Package admin serves the second listener, for those who run the gateway: whether it lives and is ready, its
// metrics and status, and reload. Callers never reach it.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/gorilla/mux"
)

// A Face is what admin shows and asks of the gateway. Its functions may be called at the same time.
type Face struct {
	Ready   func() error                                      // nil: ready; else why not, in words fit for a probe's log
	Status  func() any                                        // encoded as JSON
	Reload  func(context.Context) (generation int64, _ error) // an error's lines are the problems found
	Metrics http.Handler

	// Rollback goes back to the policy before the one in force, and Resume undoes that; by is who asks. What they
	// return is encoded as JSON; an error's lines are the reasons why nothing changed.
	Rollback, Resume func(ctx context.Context, by string) (any, error)
}

// Admin is the second listener's server.
type Admin struct {
	cfg    Config
	face   Face
	server *http.Server
	local  bool // only this machine reaches the listener; Run, before it serves
}

// The bounds of one admin request. A profile may take its 30 seconds.
const (
	maxHeader    = 16 << 10 // bytes
	maxBody      = 4 << 10  // bytes; no endpoint reads one
	headerTime   = 5 * time.Second
	readTime     = 10 * time.Second
	writeTime    = 65 * time.Second
	idleTime     = 2 * time.Minute
	shutdownTime = 2 * time.Second
)

// New returns an Admin that shows face. It listens only when Run is called.
func New(cfg Config, face Face) *Admin {
	a := &Admin{cfg: cfg, face: face}
	a.server = &http.Server{
		Handler:           a.guard(http.MaxBytesHandler(a.routes(), maxBody)),
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       readTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	return a
}

// Run serves l, which it closes, until ctx ends; requests then have a moment to finish. It can be called once.
func (a *Admin) Run(ctx context.Context, l net.Listener) error {
	a.local = isLocal(l.Addr())
	stopped := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(stopped)
		a.stop(context.WithoutCancel(ctx))
	})
	err := a.server.Serve(l)
	if release() { // Serve ended by itself
		return fmt.Errorf("admin: serve %s: %w", l.Addr(), err)
	}
	<-stopped
	return nil
}

func (a *Admin) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, shutdownTime)
	defer cancel()
	if errors.Is(a.server.Shutdown(ctx), context.DeadlineExceeded) {
		a.server.Close()
	}
}

// routes are exact: a path that is not cleaned cannot slip past a rule made for the clean one.
func (a *Admin) routes() http.Handler {
	r := mux.NewRouter().SkipClean(true)
	r.NotFoundHandler = problem(http.StatusNotFound, "there is nothing here")
	r.MethodNotAllowedHandler = http.HandlerFunc(wrongMethod)
	get := func(path string, h http.Handler) { r.Handle(path, h).Methods(http.MethodGet, http.MethodHead) }
	get("/live", http.HandlerFunc(a.live))
	get("/ready", http.HandlerFunc(a.ready))
	get("/metrics", a.face.Metrics)
	get("/status", a.private(a.status))
	r.Handle("/reload", a.private(a.reload)).Methods(http.MethodPost)
	r.Handle("/policy/rollback", a.private(a.turn(a.face.Rollback))).Methods(http.MethodPost)
	r.Handle("/policy/resume", a.private(a.turn(a.face.Resume))).Methods(http.MethodPost)
	if a.cfg.Pprof {
		get("/debug/pprof/", a.private(pprof.Index))
		get("/debug/pprof/cmdline", problem(http.StatusNotFound, "the command line is not shown"))
		get("/debug/pprof/profile", a.private(pprof.Profile))
		get("/debug/pprof/trace", a.private(pprof.Trace))
		r.Handle("/debug/pprof/symbol", a.private(pprof.Symbol)).Methods(http.MethodGet, http.MethodPost)
		get("/debug/pprof/{profile}", a.private(pprof.Index))
	}
	return r
}
