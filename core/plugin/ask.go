package plugin

import (
	"context"

	"github.com/nexus-gateway/nexus/core/sandbox"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A hook is what a guest may answer where it is asked by records and answers in records.
type hook struct {
	verdicts uint32      // bits: those that mean something there
	records  uint32      // bits: ids that it may say, beside a refusal's
	text     abi.Verdict // with which OutText may be said
}

const refusalRecords = 1<<abi.OutStatus | 1<<abi.OutCode | 1<<abi.OutMessage | 1<<abi.OutRetry

var (
	requestHook = &hook{
		verdicts: 1<<abi.Pass | 1<<abi.Refuse | 1<<abi.Answer, text: abi.Answer,
		records: 1<<abi.OutLabel | 1<<abi.OutHeader | 1<<abi.OutModel | 1<<abi.OutPool | 1<<abi.OutRequestHeader | 1<<abi.OutDropHeader | 1<<abi.OutSystem,
	}
	toolCallHook = &hook{verdicts: 1<<abi.Pass | 1<<abi.Refuse | 1<<abi.Drop, text: abi.Drop, records: 1 << abi.OutArguments}
	usageHook    = &hook{verdicts: 1<<abi.Pass | 1<<abi.Refuse}
	textHook     = &hook{verdicts: 1 << abi.Refuse} // records come with a refusal alone
)

// may reports whether a record of the id may be said with the verdict. Ids that are not known may: they are from a
// later version and mean nothing here.
func (h *hook) may(id uint16, v abi.Verdict) bool {
	switch {
	case id == 0 || id > abi.OutRetry:
		return true
	case id == abi.OutText:
		return h.text != abi.Pass && v == h.text
	}
	return (h.records|refusalRecords)>>id&1 != 0
}

// A question is one call of a hook that is asked by records.
type question struct {
	hook *hook
	call sandbox.Func
	meta []byte
}

// put asks a question and checks what is said to it; after an error nothing was.
func (p *plugin) put(ctx context.Context, t *turn, q question, s *said) (v abi.Verdict, err error) {
	g, err := p.enter(ctx, t)
	if err != nil {
		return 0, err
	}
	err = errPanicked
	defer func() { p.leave(g, err) }()
	v, err = p.putGuest(ctx, g, q, s)
	return v, err
}

func (p *plugin) putGuest(ctx context.Context, g *sandbox.Guest, q question, s *said) (abi.Verdict, error) {
	defer p.wipe(g, p.buffers.in, uint32(len(q.meta)))
	word, err := p.tellGuest(ctx, g, q.call, q.meta)
	if err != nil {
		return 0, err
	}
	r := abi.Result(word)
	if r.Error() != 0 {
		return 0, fail(declared, "%s", p.reason(g, r))
	}
	v := r.Verdict()
	if v > 31 || q.hook.verdicts>>v&1 == 0 || r.Edits() != 0 {
		return 0, fail(badResult, "%#x means nothing", word)
	}
	if err := p.readRecords(g, r, q.hook, s); err != nil {
		return 0, err
	}
	switch {
	case v != abi.Answer:
	case !p.granted["answer"]:
		return 0, fail(badRecord, `it answered without the capability "answer"`)
	case !s.route.Answers():
		return 0, fail(badResult, "it answered a call of %s, which no text answers", s.route)
	case !s.hasText:
		return 0, fail(badResult, "it answered without a text")
	}
	return v, nil
}

// tellGuest calls a hook with meta, which the caller wipes away.
func (p *plugin) tellGuest(ctx context.Context, g *sandbox.Guest, call sandbox.Func, meta []byte) (uint64, error) {
	if uint64(len(meta)) > uint64(p.buffers.inCap) || !g.Write(p.buffers.in, meta) {
		return 0, fail(badResult, "%d bytes of metadata do not fit the in buffer of %d", len(meta), p.buffers.inCap)
	}
	word, err := g.Call(ctx, call, uint64(len(meta)))
	if err != nil {
		return 0, faultOf(ctx, err)
	}
	return word, nil
}
