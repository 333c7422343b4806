package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nexus-gateway/nexus/core/auth"
	"github.com/nexus-gateway/nexus/core/gateway"
)

//go:embed default.yaml
var defaults []byte

// serve runs the gateway until ctx ends.
func serve(ctx context.Context, t terminal, args []string) error {
	o := options(t)
	if _, err := parse(t, "serve", args, 0, func(f *flag.FlagSet) {
		f.StringVar(&o.File, "c", "", "the configuration `file`; without it, embedded defaults with a mock backend")
	}); err != nil {
		return err
	}
	if o.File != "" {
		return serveUntil(ctx, o, nil)
	}
	stop, err := startMock()
	if err != nil {
		return err
	}
	defer stop()
	key, err := developmentKey()
	if err != nil {
		return err
	}
	return serveUntil(ctx, o, func(listen, admin net.Addr) { greet(t, key, listen, admin) })
}

func options(t terminal) gateway.Options {
	return gateway.Options{
		Text: defaults, Version: version(), Log: slog.New(slog.NewJSONHandler(t.err, nil)),
		Listen: os.Getenv("NEXUS_LISTEN"), Admin: os.Getenv("NEXUS_ADMIN_LISTEN"),
	}
}

func serveUntil(ctx context.Context, o gateway.Options, greet func(listen, admin net.Addr)) error {
	g, err := gateway.New(ctx, o)
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	again := make(chan os.Signal, 2)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for asked := 0; ; {
			select {
			case <-hup:
				_, _ = g.Reload(ctx) // it logs what became of it
			case <-again:
				if asked++; asked == 2 {
					g.Hurry()
				}
			case <-done:
				return
			}
		}
	}()
	return g.Run(ctx, greet)
}

// developmentKey takes NEXUS_DEV_KEY or makes a key, and tells the embedded defaults its hash.
func developmentKey() (string, error) {
	key := os.Getenv("NEXUS_DEV_KEY")
	if key == "" {
		var err error
		if key, _, err = auth.NewKey(); err != nil {
			return "", err
		}
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("nexus serve: NEXUS_DEV_KEY: a key is printable ASCII without spaces, so that a header can carry it")
	}
	sum := sha256.Sum256([]byte(key))
	return key, os.Setenv("NEXUS_DEV_KEY_SHA256", hex.EncodeToString(sum[:]))
}

func greet(t terminal, key string, listen, admin net.Addr) {
	fmt.Fprintf(t.err, `
Nexus answers on http://%[1]s (admin on http://%[2]s) with a built-in mock backend.
Development key, shown this once: %[3]s
The mock echoes what reached it; watch the phone number:

curl -N http://%[1]s/v1/chat/completions -H 'Authorization: Bearer %[3]s' -H 'Content-Type: application/json' \
  -d '{"model":"mock-echo","stream":true,"messages":[{"role":"user","content":"제 번호는 010-2345-6789 입니다."}]}'

`, listen, admin, key)
}

// check builds what the configuration names and throws it away.
func check(ctx context.Context, t terminal, args []string) error {
	o := options(t)
	o.Log = slog.New(slog.DiscardHandler)
	if _, err := parse(t, "check", args, 0, func(f *flag.FlagSet) { f.StringVar(&o.File, "c", "", "the configuration `file`") }); err != nil {
		return err
	}
	if o.File == "" {
		fmt.Fprintln(t.err, "nexus check: name the configuration with -c FILE")
		return errUsage
	}
	if err := gateway.Check(ctx, o); err != nil {
		return err
	}
	_, err := fmt.Fprintf(t.out, "%s: ok\n", o.File)
	return err
}
