package main

import (
	"github.com/nexus-gateway/nexus/plugins/callers"
	"github.com/nexus-gateway/nexus/sdk/abi"
	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

// A quota counts what calls cost. It is set at load and never changes after; what a call has reserved stands in a
// label of the call, since no instance serves all its hooks.
type quota struct {
	by        string // key, tenant or team
	window    window
	limit     amount
	overrides []override
	weights   []weights

	bytesPerToken  int64 // of a prompt that nobody has counted yet; 0: prompts reserve nothing
	completion     int64 // tokens to reserve when the caller does not say how many it will have at most
	mostCompletion int64 // tokens to reserve at most; 0: all that the caller asks for
	cut            bool  // a running answer ends when the limit is passed
}

// An override is another limit for some callers. The first that names a caller counts.
type override struct {
	callers.Rule
	limit amount
}

// Labels of a call.
const (
	labelState     = "units.state"     // what is reserved, in millionths, and in which window
	labelRemaining = "units.remaining" // units left when the call was let in
	labelCharged   = "units.charged"   // units that the call cost
)

const (
	grace = hour // that a counter lives beyond its window, for the calls that began in it
	ahead = 64   // tokens that a running answer reserves at a time
)

// request reserves what a call may cost.
func (q *quota) request(r *nexus.Request) {
	if len(q.weights) == 0 {
		r.Fail("there is no configuration: weights and limit are needed")
		return
	}
	who := callers.Of(r)
	most := q.estimate(q.weightsOf(r.Model()), r)
	limit := q.limitOf(&who)
	start, end := q.window.around(nexus.NowMillis())
	s := state{reserved: most, start: start}
	count, ok := q.add(&who, &s, most, limit)
	if !ok {
		nexus.AddMetric("calls_refused", 1)
		r.Refuse(429, "units_exhausted", q.sentence(limit, most, end))
		r.RetryAfter(until(end))
		return
	}
	r.SetLabel(labelState, s.String())
	r.SetLabel(labelRemaining, (limit - count).String())
}

// estimate is the most that a call should cost.
func (q *quota) estimate(w *weights, r *nexus.Request) amount {
	prompt := int64(0)
	if q.bytesPerToken > 0 {
		prompt = int64(r.Bytes()) / q.bytesPerToken
	}
	completion := r.MaxTokens()
	if completion < 0 {
		completion = q.completion
	}
	if q.mostCompletion > 0 {
		completion = min(completion, q.mostCompletion)
	}
	choices := int64(max(r.Choices(), 1))
	if completion > int64(maxAmount)/choices {
		return maxAmount
	}
	return w.cost(prompt, 0, completion*choices)
}

// usage settles a call when all of it is counted. Before that it sees to it that what runs is reserved, if answers
// are cut.
func (q *quota) usage(u *nexus.Usage) {
	s, ok := parseState(u.Label(labelState))
	if !ok || len(q.weights) == 0 {
		return
	}
	who := callers.Of(u)
	cost := q.weightsOf(u.Model()).cost(u.Prompt(), u.Cached(), u.Completion())
	switch {
	case u.Final() && u.Prompt()+u.Completion() > 0:
		q.settle(&who, &s, cost)
		nexus.SetLabel(labelState, "settled")
		nexus.SetLabel(labelCharged, cost.String())
	case !u.Final() && q.cut && cost > s.reserved:
		q.reserveMore(u, &who, &s, cost)
	}
}

// reserveMore reserves what a running answer costs by now, and a little more, so that not every chunk asks the store.
func (q *quota) reserveMore(u *nexus.Usage, who *callers.Call, s *state, cost amount) {
	limit := q.limitOf(who)
	need := cost - s.reserved
	for _, more := range [...]amount{plus(need, times(q.weightsOf(u.Model()).completion, ahead)), need} {
		if _, ok := q.add(who, s, more, limit); ok {
			s.reserved += more
			nexus.SetLabel(labelState, s.String())
			return
		}
	}
	nexus.AddMetric("calls_cut", 1)
	_, end := q.window.around(s.start)
	u.Refuse(429, "units_exhausted", q.sentence(limit, cost, end))
	u.RetryAfter(until(end))
}

// until is in how many seconds a window ends, at most a day: who waits for longer asks again.
func until(end int64) int {
	return int(min(max(end-nexus.NowMillis()+second-1, 0)/second, abi.MaxRetry))
}

// end settles what no final usage has settled: calls that failed, were refused further on, or were cut. What was
// refused before any token costs nothing.
func (q *quota) end(e *nexus.End) {
	s, ok := parseState(e.Label(labelState))
	if !ok || len(q.weights) == 0 {
		return
	}
	who := callers.Of(e)
	cost := q.weightsOf(e.Model()).cost(e.Prompt(), e.Cached(), e.Completion())
	if e.Status() >= 400 && e.Prompt()+e.Completion() == 0 {
		cost = 0
	}
	q.settle(&who, &s, cost)
}

// settle corrects what was reserved to what a call cost. The limit is passed where it must be: what was used is
// counted.
func (q *quota) settle(who *callers.Call, s *state, cost amount) {
	nexus.AddMetric("units_charged", float64(cost)/unit)
	if cost != s.reserved {
		q.add(who, s, cost-s.reserved, maxAmount)
	}
}

// add adds to the counter of a call's window unless that passes limit, and returns the new count.
func (q *quota) add(who *callers.Call, s *state, more, limit amount) (count amount, ok bool) {
	now := nexus.NowMillis()
	_, end := q.window.around(s.start)
	var space [256]byte
	n, ok := nexus.CountIf(string(q.key(space[:0], who, s.start)), int64(more), int64(limit), max(end-now, 0)+grace)
	return amount(n), ok
}

// key names the counter of a window. An id that is too long for one is cut and told from others by its hash.
func (q *quota) key(b []byte, who *callers.Call, start int64) []byte {
	id := who.Tenant
	switch q.by {
	case "key":
		id = who.Key
	case "team":
		id = who.Team
		b = append(appendID(b, who.Tenant), '/') // two tenants may have teams of one name
	}
	b = append(append(b, q.by...), ':')
	b = append(appendID(b, id), ':')
	b = append(append(b, q.window.name...), ':')
	return appendInt(b, start/second)
}

// weightsOf are the weights of a model, as the caller or a plugin names it: a call is settled by what it was sent for.
func (q *quota) weightsOf(model []byte) *weights {
	for i := range q.weights {
		if m := q.weights[i].models; len(m) == 0 || callers.AnyMatches(m, model) {
			return &q.weights[i]
		}
	}
	return &q.weights[len(q.weights)-1] // configure sees to it that the last is for every model
}

func (q *quota) limitOf(who *callers.Call) amount {
	for i := range q.overrides {
		if q.overrides[i].Names(who) {
			return q.overrides[i].limit
		}
	}
	return q.limit
}

// sentence tells a caller what is used up and until when.
func (q *quota) sentence(limit, cost amount, end int64) string {
	b := append([]byte("What is left of the quota of "), limit.String()...)
	article := " units a "
	if q.window.name == "hour" {
		article = " units an "
	}
	b = append(b, article...)
	b = append(append(b, q.window.name...), " of your "...)
	b = append(append(b, q.by...), " does not cover this call, which takes "...)
	b = cost.append(b)
	b = append(b, "; the "...)
	b = append(append(b, q.window.name...), " ends at "...)
	return string(append(q.window.append(b, end), '.'))
}
