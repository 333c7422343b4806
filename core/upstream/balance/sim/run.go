// Package sim runs balancing algorithms against replicas with a prefix cache and a queue, in virtual time: the same
// seed gives the same result, and minutes of traffic take moments.
package sim

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nexus-gateway/nexus/core/upstream/balance"
)

// A Run is one simulation.
type Run struct {
	Workload  Workload
	Algorithm Algorithm
	Replicas  int
	Gateways  int           // that share nothing but the replicas; 0 is 1
	Length    time.Duration // of virtual time; the first quarter is not measured
	Engine    Engine        // zero: DefaultEngine
	Seed      uint64
}

// A Result is what came of a run.
type Result struct {
	Hit      float64       // share of prompt tokens found in prefix caches
	Rate     float64       // prompt tokens answered a second
	Good     float64       // of these, of calls whose first token came within InTime
	Calls    float64       // a second
	TTFT50   time.Duration // from sending to the first token
	TTFT90   time.Duration
	Fairness float64 // Jain's index of the prompt tokens that each replica had to read: 1 is even, 1/n is all on one
}

// pollEvery is how often gateways ask engines for their load.
const pollEvery = time.Second

// InTime is how long a caller waits gladly for the first token.
const InTime = time.Second

// epoch is when virtual time begins.
var epoch = time.Unix(1_000_000_000, 0)

// A world is a simulation under way.
type world struct {
	Run
	dice     *rand.Rand
	now      time.Duration
	events   events
	count    int
	servers  []*server
	gateways []*gateway
	from     time.Duration // measured from here on
	base     []int
	ttft     []time.Duration
	prompts  int // tokens
	good     int
	hits     int
	calls    int
}

// A gateway is one balancer: what it knows of the replicas, and its picker.
type gateway struct {
	set    []balance.Candidate
	spare  []balance.Candidate
	picker balance.Picker
	sent   func(q *balance.Query, r *balance.Replica)
}

// Do runs the simulation.
func (r Run) Do() Result {
	if r.Engine == (Engine{}) {
		r.Engine = DefaultEngine
	}
	r.Gateways = max(r.Gateways, 1)
	w := &world{Run: r, dice: rand.New(rand.NewPCG(r.Seed, 42)), from: r.Length / 4}
	w.build()
	for len(w.events) > 0 {
		e := heap.Pop(&w.events).(event)
		if e.at > r.Length {
			break
		}
		w.now = e.at
		e.do()
	}
	return w.result()
}

func (w *world) build() {
	for range w.Replicas {
		w.servers = append(w.servers, &server{Engine: w.Engine, cache: newCache(w.Engine.Cache)})
	}
	for range w.Gateways {
		w.gateways = append(w.gateways, w.newGateway())
	}
	users := w.Workload.Users * w.Replicas
	for i := range w.Workload.Parts {
		part := &w.Workload.Parts[i]
		weight := zipf(part.Apps, part.Skew)
		for range int(part.Share*float64(users) + 0.5) {
			u := &user{part: part, weight: weight, dice: rand.New(rand.NewPCG(w.Seed, w.dice.Uint64()))}
			w.after(time.Duration(w.dice.IntN(3000))*time.Millisecond, func() { w.send(u) })
		}
	}
	w.after(pollEvery, w.poll)
	w.after(w.from, func() {
		for _, s := range w.servers {
			w.base = append(w.base, s.read)
		}
	})
}

func (w *world) newGateway() *gateway {
	g := &gateway{}
	for i := range w.Replicas {
		g.set = append(g.set, balance.Candidate{Replica: balance.NewReplica(string(rune('a' + i))), Weight: 1, Share: balance.Whole})
	}
	source := rand.New(rand.NewPCG(w.Seed, w.dice.Uint64()))
	g.picker, g.sent = w.Algorithm.New(source.Uint64)
	return g
}

// send makes a user's next call and gives it to the replica that a gateway picks.
func (w *world) send(u *user) {
	c := u.next()
	c.sent = w.now
	g := w.gateways[w.dice.IntN(len(w.gateways))]
	q := &balance.Query{Now: epoch.Add(w.now), Blocks: c.blocks, Tokens: int64(c.prompt), Session: u.id}
	g.spare = append(g.spare[:0], g.set...)
	place, cached := g.picker.Pick(q, g.spare)
	replica := g.set[place].Replica
	if g.sent != nil {
		g.sent(q, replica)
	}
	lease := new(balance.Lease)
	lease.Begin(replica, q.Tokens-cached)
	c.release = func(first bool) {
		if lease.First(); !first {
			lease.End()
		}
	}
	s := w.servers[place]
	s.queue = append(s.queue, c)
	if !s.stepped {
		w.step(s)
	}
}

func (w *world) step(s *server) {
	d := s.step()
	s.stepped = d > 0
	if d > 0 {
		w.after(d, func() {
			s.finish(w.first, w.last)
			w.step(s)
		})
	}
}

func (w *world) first(c *call) {
	c.release(true)
	if w.now < w.from {
		return
	}
	w.ttft = append(w.ttft, w.now-c.sent)
	w.prompts += c.prompt
	if w.now-c.sent <= InTime {
		w.good += c.prompt
	}
	w.hits += min(c.hit*BlockTokens, c.prompt)
	w.calls++
}

func (w *world) last(c *call) {
	c.release(false)
	w.after(c.user.think(), func() { w.send(c.user) })
}

// poll tells every gateway the engines' load.
func (w *world) poll() {
	for i, s := range w.servers {
		for _, g := range w.gateways {
			g.set[i].Tell(balance.Report{
				Waiting: int64(len(s.queue)), Running: int64(len(s.reading) + len(s.running)),
				KV: float64(s.tokens) / float64(s.Cache*BlockTokens), At: epoch.Add(w.now),
			})
		}
	}
	w.after(pollEvery, w.poll)
}

func (w *world) result() Result {
	seconds := (w.Length - w.from).Seconds()
	slices.Sort(w.ttft)
	r := Result{Rate: float64(w.prompts) / seconds, Good: float64(w.good) / seconds, Calls: float64(w.calls) / seconds, Fairness: w.jain()}
	if w.calls > 0 {
		r.Hit = float64(w.hits) / float64(w.prompts)
		r.TTFT50, r.TTFT90 = w.ttft[len(w.ttft)/2], w.ttft[len(w.ttft)*9/10]
	}
	return r
}

// jain is Jain's index of what the replicas had to read.
func (w *world) jain() float64 {
	var sum, squares float64
	for i, s := range w.servers {
		read := float64(s.read - w.base[i])
		sum += read
		squares += read * read
	}
	return sum * sum / (squares * float64(len(w.servers)))
}

// An event is something that happens at a moment of virtual time.
type event struct {
	at    time.Duration
	order int
	do    func()
}

func (w *world) after(d time.Duration, do func()) {
	w.count++
	heap.Push(&w.events, event{w.now + d, w.count, do})
}

type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e *events) Push(x any) { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}
