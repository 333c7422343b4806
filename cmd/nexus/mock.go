package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/mock"
)

// defaultModels are what the embedded defaults' pool serves.
var defaultModels = []string{"mock", "mock-echo", "mock-embed"}

// startMock starts the backend of the embedded defaults and tells them its address.
func startMock() (stop func(), err error) {
	s, err := mock.New(mock.Options{Models: defaultModels, Pace: 20 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	port, err := s.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return func() { _ = s.Close() }, os.Setenv("NEXUS_MOCK_URL", port.URL)
}

func runMock(ctx context.Context, t terminal, args []string) error {
	var o mock.Options
	var kind, models, listen string
	if _, err := parse(t, "mock", args, 0, func(f *flag.FlagSet) {
		f.StringVar(&listen, "listen", "127.0.0.1:8000", "`address`es to answer on, separated by commas: one engine behind many ports")
		f.StringVar(&kind, "kind", "vllm", "which engine to look like: vllm or sglang")
		f.StringVar(&models, "models", strings.Join(defaultModels, ","), "model names, separated by commas; one that ends in echo repeats the last user message")
		f.IntVar(&o.Tokens, "tokens", 0, "words in an answer (default 32)")
		f.DurationVar(&o.Pace, "pace", 20*time.Millisecond, "wait before each event of a stream")
		f.DurationVar(&o.TTFT, "ttft", 0, "wait before the first event")
		f.DurationVar(&o.KeepAlive, "keep-alive", 0, "when an idle connection is closed hard (default 5s)")
		f.IntVar(&o.Record, "record", 0, "requests kept for GET /mock/requests (default 64, negative: none)")
	}); err != nil {
		return err
	}
	o.Kind, o.Models = mock.Kind(kind), strings.Split(models, ",")
	s, err := mock.New(o)
	if err != nil {
		return err
	}
	defer s.Close()
	for address := range strings.SplitSeq(listen, ",") {
		port, err := s.Listen(strings.TrimSpace(address))
		if err != nil {
			return err
		}
		fmt.Fprintf(t.err, "mock %s backend on %s\n", kind, port.URL)
	}
	<-ctx.Done()
	return nil
}
