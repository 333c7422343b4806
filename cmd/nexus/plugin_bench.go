package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/plugin"
)

// What is measured is ordinary text, as people write it to a model: guards leap over most of it.
const (
	benchEnglish = "We moved the weekly review to Thursday because two of the engineers are travelling, so please update the agenda and " +
		"send it to everyone who was on the last thread. The first item is the budget for the next quarter: sales expects around 12% " +
		"growth, but the figures from Busan arrived late and nobody has checked them. After that we should talk about the office " +
		"lease, which ends in March 2027; the landlord offered a lower rent if we stay for three more years. What would you need " +
		"to compare both offers? I have put the drafts into the shared folder, together with a table of what it cost us to run the " +
		"building since 2021. It would also help to hear how other companies of our size decided, and whether they regret it. " +
		"Finally, the summer party: last year people liked the boat, though it rained, and the year before we were in the " +
		"mountains. Give me a short list of places that can be reached by train in less than an hour, with their prices per person, " +
		"and tell me which of them can take eighty guests on a Friday evening in early June. Kim (kim@example.com) has the budget. "
	benchKorean = "지난주 회의에서 결정한 내용을 정리해서 보내 드립니다. 다음 분기 예산은 작년보다 12% 정도 늘리기로 했고, 부산 지사에서 올라온 숫자는 아직 아무도 확인하지 못했습니다. " +
		"사무실 임대 계약이 2027년 3월에 끝나는데 건물주가 3년을 더 쓰면 월세를 낮춰 주겠다고 합니다. 두 가지 안을 비교하려면 어떤 자료가 더 필요할까요? 초안은 공유 폴더에 넣어 두었습니다. " +
		"여름 행사는 기차로 한 시간 안에 갈 수 있는 곳이면 좋겠고, 팔십 명이 들어갈 수 있어야 합니다. 작년에는 비가 왔지만 배를 탄 것이 반응이 좋았고, 재작년에는 산에 다녀왔습니다. " +
		"장소를 몇 군데 골라서 한 사람당 가격과 함께 표로 만들어 주세요. 김 과장님이 예산을 가지고 계시니 금요일까지 답을 드려야 합니다. 날씨가 나쁠 때를 위한 방법도 하나 생각해 주시면 고맙겠습니다. 그럼 잘 부탁드립니다."
)

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
	if span <= 0 {
		return usage(t, "plugin bench", "-time must be longer than nothing")
	}
	s, err := readSettings(settings)
	if err != nil {
		return fmt.Errorf("nexus plugin bench: %w", err)
	}
	trial, err := m.open(ctx, plugin.TrialOptions{Log: logTo(t), Deadline: benchDeadline}, s)
	if err != nil {
		return fmt.Errorf("nexus plugin bench: %w", err)
	}
	err = (&bench{t.out, trial, span}).all(ctx)
	return errors.Join(err, trial.Close())
}

// benchDeadline is the deadline of one call here: a busy machine makes figures worse, but does not end them.
const benchDeadline = 10 * time.Second

// A bench measures one plugin.
type bench struct {
	out   io.Writer
	trial *plugin.Trial
	span  time.Duration
}

func (b *bench) all(ctx context.Context) error {
	if b.trial.Sees("on_text") {
		if err := b.texts(ctx); err != nil {
			return err
		}
	}
	if !b.trial.Sees("on_request") {
		return nil
	}
	c, err := plugin.NewCall("chat", `{"model":"mock","messages":[{"role":"user","content":"hi"}]}`)
	if err != nil {
		return err
	}
	return b.measure("request", func() error { return b.trial.Request(ctx, c) }, amount{})
}

// texts measures the last message of a user and a reply in chunks.
func (b *bench) texts(ctx context.Context) error {
	for _, s := range []struct {
		language, text string
		size           int
	}{
		{"English", benchEnglish, 16}, {"English", benchEnglish, 64}, {"English", benchEnglish, 1024}, {"Korean", benchKorean, 1024},
	} {
		text := strings.ToValidUTF8(s.text[:s.size], "")
		one := func() error {
			_, err := b.trial.Text(ctx, plugin.TextTrial{Role: llm.User, LastUser: true}, text)
			return err
		}
		if err := b.measure(fmt.Sprintf("%d bytes of %s", len(text), s.language), one, amount{bytes: len(text)}); err != nil {
			return err
		}
	}
	chunks := strings.SplitAfter(benchEnglish[:512]+strings.ToValidUTF8(benchKorean[:512], ""), " ")
	stream := func() error {
		_, err := b.trial.Text(ctx, plugin.TextTrial{Role: llm.Assistant, Reply: true}, chunks...)
		return err
	}
	return b.measure(fmt.Sprintf("stream of %d chunks", len(chunks)), stream, amount{len(strings.Join(chunks, "")), len(chunks)})
}

// An amount is how much text is asked about at a time; zero: none, or in one chunk.
type amount struct{ bytes, chunks int }

// measure repeats one and prints what a call of it, and of the guest, cost.
func (b *bench) measure(what string, one func() error, of amount) error {
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
	each := float64(took.Nanoseconds()) / float64(n)
	line := fmt.Sprintf("%-22s %9.2f µs", what, each/1000)
	if of.bytes > 0 {
		line += fmt.Sprintf("  %8.2f µs/KB", each/1000/float64(of.bytes)*1024)
	}
	if of.chunks > 0 {
		line += fmt.Sprintf("  %8.0f ns/chunk", each/float64(of.chunks))
	}
	line += fmt.Sprintf("  %8.0f ns and %8.0f units of fuel a call of the guest", float64(took.Nanoseconds())/float64(calls), float64(after.Fuel-before.Fuel)/float64(calls))
	_, err := fmt.Fprintln(b.out, line)
	return err
}
