package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/nexus-gateway/nexus/core/mock"
)

// reverseProxy is the subcommand that everything is measured against: what anyone gets from the standard
// library in ten lines, with connections enough.
func reverseProxy(ctx context.Context, _ io.Writer, args []string) error {
	fs := flag.NewFlagSet("reverseproxy", flag.ContinueOnError)
	to := fs.String("to", "http://127.0.0.1:8000", "backend's URL")
	listen := fs.String("listen", "127.0.0.1:8081", "address to listen on")
	if err := fs.Parse(args); err != nil {
		return err
	}
	u, err := url.Parse(*to)
	if err != nil || u.Host == "" {
		return fmt.Errorf("--to %q is not a URL", *to)
	}
	server := &http.Server{Addr: *listen, Handler: bareProxy(u), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listen on %s: %w", *listen, err)
	}
	return nil
}

func bareProxy(to *url.URL) http.Handler {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 4096, 4096
	transport.IdleConnTimeout = 4 * time.Second // the backend closes at 5 s
	transport.DisableCompression = true
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
	}
}

// answerWords make a whole answer of about 1 KB.
const answerWords = 90

// backend is the subcommand that runs the mock, without its record of requests.
func backend(ctx context.Context, _ io.Writer, args []string) error {
	fs := flag.NewFlagSet("backend", flag.ContinueOnError)
	listen := fs.String("listen", "127.0.0.1:8000", "address to listen on")
	if err := fs.Parse(args); err != nil {
		return err
	}
	s, err := mock.New(backendOptions)
	if err != nil {
		return err
	}
	return s.Run(ctx, []string{*listen}, nil)
}

var backendOptions = mock.Options{Models: []string{"mock"}, Tokens: answerWords, Record: -1}
