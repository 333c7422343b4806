package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode/utf8"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// newCall is a call of someone.
func newCall() *pipeline.Call {
	c, err := plugin.NewCall(llm.Chat, `{"model":"some-model","messages":[{"role":"user","content":"hi"}]}`)
	if err != nil {
		panic(err) // the body is a constant
	}
	c.Principal = &pipeline.Principal{ID: "key-1", Kind: "key", Tenant: "acme", Team: "search", Tier: "gold", Labels: map[string]string{"grade": "a"}}
	c.Header.Set("X-Ask", "1")
	return c
}

// A kind is what sort of text is asked about.
type kind struct {
	plugin.TextTrial
	name string
}

// kinds are the sorts of texts there are; the first two are those that most texts are of.
func kinds() []kind {
	all := []kind{
		{plugin.TextTrial{Role: llm.User, LastUser: true}, "a request's last user message"},
		{plugin.TextTrial{Reply: true, Role: llm.Assistant}, "a reply's content"},
		{plugin.TextTrial{Role: llm.System}, "a request's system message"},
		{plugin.TextTrial{Role: llm.Tool}, "a tool's result"},
		{plugin.TextTrial{Role: llm.Assistant, Channel: llm.ToolArguments}, "a request's tool arguments"},
		{plugin.TextTrial{Channel: llm.Prompt}, "a prompt"},
		{plugin.TextTrial{Channel: llm.Input}, "an input"},
		{plugin.TextTrial{Channel: llm.Aside}, "what stands aside in a request"},
		{plugin.TextTrial{Reply: true, Role: llm.Assistant, Channel: llm.Reasoning}, "a reply's reasoning"},
		{plugin.TextTrial{Reply: true, Role: llm.Assistant, Channel: abi.Refused}, "a reply's refusal"},
		{plugin.TextTrial{Reply: true, Role: llm.Assistant, Channel: llm.ToolArguments}, "a reply's tool arguments"},
	}
	return all
}

// A result is what came of a text: what came out, or the plugin's no.
type result struct {
	plugin.TextFound
	refused string // code and reason; empty: it was let go
}

func (r result) String() string {
	if r.refused != "" {
		return "a refusal: " + r.refused
	}
	return fmt.Sprintf("%q with %d findings %v", r.Text, r.Count, r.Kinds)
}

func (r result) same(o result) bool {
	if r.refused != "" || o.refused != "" {
		return r.refused == o.refused
	}
	return r.Text == o.Text && r.Count == o.Count && strings.Join(r.Kinds, " ") == strings.Join(o.Kinds, " ")
}

// put lets a text through the plugin. The error is the plugin's failure.
func put(ctx context.Context, t *plugin.Trial, k kind, pieces ...string) (result, error) {
	k.Call = newCall()
	found, err := t.Text(ctx, k.TextTrial, pieces...)
	return resultOf(found, err)
}

func resultOf(found plugin.TextFound, err error) (result, error) {
	var no *pipeline.Refusal
	switch {
	case err == nil:
		return result{TextFound: found}, nil
	case plugin.FaultCause(err) == "" && errors.As(err, &no):
		return result{refused: fmt.Sprintf("%d %s: %s", no.Status, no.Code, no.Reason)}, nil
	}
	return result{}, failure(err)
}

// failure is why a plugin failed, without the gateway's words for the caller.
func failure(err error) error {
	var no *pipeline.Refusal
	if errors.As(err, &no) && no.Err != nil {
		return no.Err
	}
	return err
}

// again is a case for cases.yaml that does it again.
func again(k kind, want string, pieces ...string) string {
	direction := "request"
	if k.Reply {
		direction = "reply"
	}
	quoted := make([]string, len(pieces))
	for i, p := range pieces {
		quoted[i] = quote(p)
	}
	line := fmt.Sprintf("{name: again, direction: %s, role: %s, channel: %s, pieces: [%s]", direction, roles[k.Role], channels[k.Channel], strings.Join(quoted, ", "))
	if k.LastUser {
		line += ", last_user: true"
	}
	if want != "" {
		line += ", want: " + quote(want)
	}
	return line + "}"
}

// quote writes s as JSON, which YAML reads too; long ones are cut in the middle of a report.
func quote(s string) string { return string(llm.AppendString(nil, s)) }

var roles = []string{"none", "system", "developer", "user", "assistant", "tool"}

var channels = []string{"content", "reasoning", "refusal", "tool_arguments", "prompt", "input", "aside"}

// cuts: the whole text, cut in two at every place, cut into its characters, and cut at random, comes out the same.
func cuts(ctx context.Context, s *subject) (string, error) {
	if !s.trial.Sees("on_text") {
		return "", skip("it does not subscribe to on_text")
	}
	n := 0
	random := rand.New(rand.NewPCG(s.options.Seed, 1))
	for i, k := range kinds() {
		for j, text := range s.texts {
			if i > 1 && j%4 != i%4 { // every sort of text sees some of them
				continue
			}
			m, err := s.cut(ctx, k, text, random)
			if err != nil {
				return "", err
			}
			n += m
		}
	}
	return fmt.Sprintf("%d texts cut in %d ways", len(s.texts), n), nil
}

// cut holds one text to the law and returns in how many ways.
func (s *subject) cut(ctx context.Context, k kind, text string, random *rand.Rand) (n int, err error) {
	whole, err := put(ctx, s.trial, k, text)
	if err != nil {
		return 0, breaks(again(k, "", text), "%s: %w", k.name, err)
	}
	try := func(pieces ...string) error {
		n++
		got, err := put(ctx, s.trial, k, pieces...)
		if err != nil {
			return breaks(again(k, "", pieces...), "%s, cut into %d pieces: %w", k.name, len(pieces), err)
		}
		if !got.same(whole) {
			return breaks(again(k, whole.Text, pieces...), "%s comes out as %v when cut, but whole as %v", k.name, got, whole)
		}
		return nil
	}
	for i, pieces := range waysToCut(text, random) {
		if s.options.Brief && i%4 != 0 {
			continue
		}
		if err := try(pieces...); err != nil {
			return n, err
		}
	}
	return n, ctx.Err()
}

// maxCuts bounds how often a long text is cut in two.
const maxCuts = 120

func waysToCut(text string, random *rand.Rand) [][]string {
	places := placesOf(text)
	var all [][]string
	for i := 0; i < len(places); i += 1 + len(places)/maxCuts {
		all = append(all, []string{text[:places[i]], text[places[i]:]}, []string{text[:places[i]], "", text[places[i]:], ""})
	}
	if len(text) < 4096 {
		all = append(all, strings.Split(text, ""))
	}
	for range 12 {
		all = append(all, atRandom(text, random))
	}
	return all
}

// placesOf are where a text may be cut: between characters.
func placesOf(text string) []int {
	var all []int
	for i := range text {
		if i > 0 {
			all = append(all, i)
		}
	}
	return all
}

// atRandom cuts a text into pieces as engines do: of a few characters, some long.
func atRandom(text string, random *rand.Rand) []string {
	var pieces []string
	for rest := text; rest != ""; {
		n := 1 + random.IntN(9)
		if random.IntN(8) == 0 || len(text) > 4096 {
			n += random.IntN(200 + len(text)/16)
		}
		n = min(n, len(rest))
		for n < len(rest) && !utf8.RuneStart(rest[n]) {
			n++
		}
		pieces, rest = append(pieces, rest[:n]), rest[n:]
	}
	return pieces
}

// interleaved: two texts whose pieces come in turn come out as each would alone.
func interleaved(ctx context.Context, s *subject) (string, error) {
	if !s.trial.Sees("on_text") {
		return "", skip("it does not subscribe to on_text")
	}
	random := rand.New(rand.NewPCG(s.options.Seed, 2))
	all := kinds()
	for i, text := range s.texts {
		ka, kb := all[i%len(all)], all[(i+1)%2]
		if err := s.interleave(ctx, [2]kind{ka, kb}, [2]string{text, s.texts[(i+7)%len(s.texts)]}, random); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (s *subject) interleave(ctx context.Context, k [2]kind, texts [2]string, random *rand.Rand) error {
	var streams [2]*plugin.TextStream
	var pieces [2][]string
	var errs [2]error
	for i := range texts {
		k[i].Call = newCall()
		streams[i], pieces[i] = s.trial.Texts(k[i].TextTrial), atRandom(texts[i], random)
	}
	for at := 0; at < max(len(pieces[0]), len(pieces[1])); at++ {
		for i := range streams {
			if at < len(pieces[i]) && errs[i] == nil {
				errs[i] = streams[i].Feed(ctx, pieces[i][at], at == len(pieces[i])-1)
			}
		}
	}
	for i := range streams {
		alone, err := put(ctx, s.trial, k[i], texts[i])
		if err != nil {
			return breaks(again(k[i], "", texts[i]), "%s: %w", k[i].name, err)
		}
		got, err := resultOf(streams[i].Found(), errs[i])
		if err != nil || !got.same(alone) {
			return breaks(again(k[i], alone.Text, pieces[i]...), "%s comes out as %v (%v) beside another text, but alone as %v", k[i].name, got, err, alone)
		}
	}
	return nil
}

// word asks on_text directly about a text and returns its result.
func (s *subject) word(ctx context.Context, k kind, text string, flags uint32) (plugin.RawAnswer, error) {
	flags |= uint32(k.Role)<<abi.RoleShift | uint32(k.Channel)<<abi.ChannelShift
	if k.Reply {
		flags |= abi.FlagReply
	}
	if k.LastUser {
		flags |= abi.FlagLastUser
	}
	return s.trial.Ask(ctx, plugin.Question{Hook: "on_text", In: []byte(text), Flags: flags, Call: newCall(), Reply: k.Reply})
}

// head is as much of a text as one piece takes.
func firstOf(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

func decidesAtEnd(ctx context.Context, s *subject) (string, error) {
	return s.holds(ctx, abi.FlagFinal, 0)
}

func decidesWhenTold(ctx context.Context, s *subject) (string, error) {
	return s.holds(ctx, abi.FlagMustDecide, s.m.MaxHold)
}

// holds asks about every beginning of every text with a flag, and wants no more held than most.
func (s *subject) holds(ctx context.Context, flag uint32, most int) (string, error) {
	if !s.trial.Sees("on_text") {
		return "", skip("it does not subscribe to on_text")
	}
	longest := 0
	for _, k := range kinds()[:2] {
		for _, text := range s.texts {
			held, err := s.held(ctx, k, firstOf(text, min(s.trial.InCap(), abi.MaxPiece)), flag, most)
			if err != nil {
				return "", err
			}
			longest = max(longest, held)
		}
	}
	if most == 0 {
		return "", nil
	}
	return fmt.Sprintf("at most %d of %d bytes", longest, most), nil
}

func (s *subject) held(ctx context.Context, k kind, text string, flag uint32, most int) (longest int, err error) {
	places := append(placesOf(text), len(text))
	for i := 0; i < len(places); i += 1 + len(places)/maxCuts {
		a, err := s.word(ctx, k, text[:places[i]], flag)
		if err != nil {
			return 0, breaks(again(k, "", text[:places[i]]), "%s: %w", k.name, err)
		}
		if a.Word.Verdict() != abi.Pass || a.Word.Error() != 0 {
			continue
		}
		held := int(a.Word.Hold())
		longest = max(longest, held)
		if held > most {
			return 0, breaks(again(k, "", text[:places[i]]), "%s: %d bytes are held, of %d at most", k.name, held, most)
		}
	}
	return longest, ctx.Err()
}
