package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/plugin"
)

// benchSentence is English and Korean in equal parts, with a mail address.
const benchSentence = "The quick brown fox jumps over the lazy dog, says kim@example.com. 빠른 갈색 여우가 게으른 개를 뛰어넘는다고 한다. "

// pluginBench measures a plugin as the gateway asks it: whole texts, chunks of a stream, and requests.
func pluginBench(ctx context.Context, t terminal, args []string) error {
	settings, span := "", time.Second
	m, err := pluginArg(t, "plugin bench", args, func(f *flag.FlagSet) {
		f.StringVar(&settings, "config", "", "YAML `file` with the plugin's configuration")
		f.DurationVar(&span, "time", span, "how long to measure each figure")
	})
	if err != nil {
		return err
	}
	trial, err := m.open(ctx, t, settings)
	if err != nil {
		return fmt.Errorf("nexus plugin bench: %w", err)
	}
	err = (&bench{t.out, trial, span}).all(ctx)
	return errors.Join(err, trial.Close())
}

// A bench measures one plugin.
type bench struct {
	out   io.Writer
	trial *plugin.Trial
	span  time.Duration
}

func (b *bench) all(ctx context.Context) error {
	trial := b.trial
	kilobyte := strings.ToValidUTF8(strings.Repeat(benchSentence, 10)[:1024], "")
	if trial.Sees("on_text") {
		for _, size := range []int{16, 64, len(kilobyte)} {
			text := strings.ToValidUTF8(kilobyte[:size], "")
			one := func() error { _, err := trial.Text(ctx, plugin.TextTrial{}, text); return err }
			if err := b.measure(fmt.Sprintf("text of %d bytes", len(text)), one, len(text)); err != nil {
				return err
			}
		}
		chunks := strings.SplitAfter(kilobyte, " ")
		stream := func() error { _, err := trial.Text(ctx, plugin.TextTrial{Reply: true}, chunks...); return err }
		if err := b.measure(fmt.Sprintf("stream of %d chunks", len(chunks)), stream, len(kilobyte)); err != nil {
			return err
		}
	}
	if !trial.Sees("on_request") {
		return nil
	}
	c, err := plugin.NewCall("chat", `{"model":"mock","messages":[{"role":"user","content":"hi"}]}`)
	if err != nil {
		return err
	}
	return b.measure("request", func() error { return trial.Request(ctx, c) }, 0)
}

// measure repeats one and prints what a call of it, and of the guest, cost.
func (b *bench) measure(what string, one func() error, bytes int) error {
	if err := one(); err != nil {
		return fmt.Errorf("nexus plugin bench: %s: %w", what, err)
	}
	before, start, n := b.trial.Stats(), time.Now(), 0
	for ; time.Since(start) < b.span; n++ {
		if err := one(); err != nil {
			return fmt.Errorf("nexus plugin bench: %s: %w", what, err)
		}
	}
	took, after := time.Since(start), b.trial.Stats()
	calls := max(after.Calls-before.Calls, 1)
	line := fmt.Sprintf("%-22s %9.2f µs", what, float64(took.Nanoseconds())/1000/float64(n))
	if bytes > 0 {
		line += fmt.Sprintf("  %8.2f µs/KB", float64(took.Nanoseconds())/1000/float64(n)/float64(bytes)*1024)
	}
	line += fmt.Sprintf("  %8.0f ns and %8.0f units of fuel a call of the guest", float64(took.Nanoseconds())/float64(calls), float64(after.Fuel-before.Fuel)/float64(calls))
	_, err := fmt.Fprintln(b.out, line)
	return err
}
