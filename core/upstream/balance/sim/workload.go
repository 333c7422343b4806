package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// A Workload is what users do. Each user holds one conversation after another, and sends the next call a moment
// after the answer to the last one.
type Workload struct {
	Name  string
	Users int // for each replica
	Parts []Part
}

// A Part is a kind of conversation.
type Part struct {
	Share   float64 // of the users
	Apps    int     // that such conversations belong to; each has a system prompt of its own
	Skew    float64 // exponent of Zipf's law over the apps; 0: all alike
	System  Range   // tokens of an app's system prompt
	Opening Range   // tokens of a conversation's first message
	Turn    Range   // tokens of each further message
	Turns   Range
	Answer  Range // tokens
	Think   Range // milliseconds between an answer and the next call
}

// A Range is from its first to its second, evenly.
type Range [2]int

func (r Range) draw(d *rand.Rand) int { return r[0] + d.IntN(r[1]-r[0]+1) }

// Workloads are what the table shows.
func Workloads() []Workload {
	agents := Part{Share: 1, Apps: 4, System: Range{400, 800}, Opening: Range{2500, 4500}, Turn: Range{400, 1200}, Turns: Range{8, 16}, Answer: Range{30, 90}, Think: Range{500, 2500}}
	shared := Part{Share: 1, Apps: 60, Skew: 0.9, System: Range{4000, 8000}, Opening: Range{50, 500}, Turns: Range{1, 1}, Answer: Range{40, 160}, Think: Range{200, 1000}}
	alone := Part{Share: 1, Apps: 1 << 30, Opening: Range{300, 4000}, Turns: Range{1, 1}, Answer: Range{40, 200}, Think: Range{200, 1000}}
	chat := Part{Share: 1, Apps: 20, Skew: 0.9, System: Range{300, 1500}, Opening: Range{50, 600}, Turn: Range{30, 300}, Turns: Range{3, 12}, Answer: Range{80, 400}, Think: Range{1000, 6000}}
	hot := shared
	hot.Skew = 2
	return []Workload{
		{"multi-turn", 28, []Part{agents}},
		{"shared system prompts", 32, []Part{shared}},
		{"no shared prefix", 24, []Part{alone}},
		{"skewed", 32, []Part{hot}},
		{"mixed", 52, []Part{share(agents, 0.3), share(hot, 0.4), share(chat, 0.15), share(alone, 0.15)}},
	}
}

func share(p Part, of float64) Part {
	p.Share = of
	return p
}

// A user is one source of calls.
type user struct {
	part   *Part
	dice   *rand.Rand
	weight []float64 // of the part's apps, cumulative
	app    uint64
	id     uint64 // of the conversation
	left   int    // calls of it
	system int    // tokens
	length int    // tokens of the conversation so far
	hashes []uint64
}

// next makes the user's next call.
func (u *user) next() *call {
	if u.left == 0 {
		u.begin()
	} else {
		u.length += u.part.Turn.draw(u.dice)
	}
	u.left--
	c := &call{user: u, prompt: u.length, answer: u.part.Answer.draw(u.dice)}
	c.output = c.answer
	u.length += c.answer
	c.grown = u.blocks(u.length)
	c.blocks = c.grown[:c.prompt/BlockTokens]
	return c
}

func (u *user) begin() {
	u.id, u.left = u.dice.Uint64(), u.part.Turns.draw(u.dice)
	u.app = u.pick()
	own := rand.New(rand.NewPCG(u.app, 7))
	u.system = u.part.System.draw(own)
	u.length = u.system + u.part.Opening.draw(u.dice)
	u.hashes = nil
}

// pick draws the app of a conversation.
func (u *user) pick() uint64 {
	if u.weight == nil {
		return u.dice.Uint64N(uint64(u.part.Apps))
	}
	point := u.dice.Float64() * u.weight[len(u.weight)-1]
	for i, w := range u.weight {
		if point < w {
			return uint64(i)
		}
	}
	return 0
}

// zipf is the cumulative weight of n apps.
func zipf(n int, skew float64) []float64 {
	if skew == 0 {
		return nil
	}
	w := make([]float64, n)
	sum := 0.0
	for i := range w {
		sum += 1 / math.Pow(float64(i+1), skew)
		w[i] = sum
	}
	return w
}

// blocks are the hashes of the conversation's first blocks; what is wholly the system prompt's is the app's.
func (u *user) blocks(tokens int) []uint64 {
	for i := len(u.hashes); i < tokens/BlockTokens; i++ {
		of := u.id
		if (i+1)*BlockTokens <= u.system {
			of = u.app<<8 | uint64(u.part.Apps&0xff)
		}
		u.hashes = append(u.hashes, scramble(of*0x9e3779b97f4a7c15+uint64(i)))
	}
	return u.hashes[: tokens/BlockTokens : tokens/BlockTokens]
}

func scramble(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (u *user) think() time.Duration {
	return time.Duration(u.part.Think.draw(u.dice)) * time.Millisecond
}
