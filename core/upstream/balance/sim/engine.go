package sim

import "time"

// An Engine is what one replica can do. The defaults are those of a model of 32 billion parameters on two H100.
type Engine struct {
	Prefill float64       // prompt tokens a second
	Step    time.Duration // of a step, whatever it holds
	Decode  time.Duration // more for each call that generates
	Batch   int           // prompt tokens of a step
	Calls   int           // that run at once; others wait
	Cache   int           // blocks of the KV cache
}

// DefaultEngine is used where none is named.
var DefaultEngine = Engine{
	Prefill: 16_000, Step: 8 * time.Millisecond, Decode: 60 * time.Microsecond, Batch: 4096, Calls: 128, Cache: 6250,
}

// BlockTokens is the length of a block.
const BlockTokens = 64

// A call is one request in the simulation.
type call struct {
	user    *user
	blocks  []uint64 // of its prompt
	prompt  int      // tokens
	output  int      // tokens still to generate
	answer  int      // tokens of the whole answer
	grown   []uint64 // blocks of prompt and answer
	hit     int      // blocks found in the cache
	left    int      // prompt tokens still to read
	began   bool     // its prompt is being read
	sent    time.Duration
	release func(first bool) // gives its weight at the gateway back
}

// A server is a replica at work: in each step it reads some of the oldest prompt and generates a token for each call
// that is past its prompt, as vLLM and SGLang do with chunked prefill.
type server struct {
	Engine
	cache   *cache
	queue   []*call
	reading []*call
	running []*call
	tokens  int // of calls that run
	stepped bool
	read    int   // prompt tokens so far
	takes   []int // prompt tokens of this step, by place in reading
}

// admit lets calls in from the queue while there is room.
func (s *server) admit() {
	for len(s.queue) > 0 {
		c := s.queue[0]
		size := c.size()
		running := len(s.reading) + len(s.running)
		if running >= s.Calls || running > 0 && s.tokens+size > s.Cache*BlockTokens {
			return
		}
		s.queue = s.queue[1:]
		s.tokens += size
		s.reading = append(s.reading, c)
	}
}

// step plans the next step and returns how long it takes; 0 if there is nothing to do.
func (s *server) step() time.Duration {
	s.admit()
	s.takes = s.takes[:0]
	if len(s.reading)+len(s.running) == 0 {
		return 0
	}
	room := s.Batch
	for _, c := range s.reading {
		if room <= 0 {
			break
		}
		if !c.began {
			c.began = true
			c.hit = s.cache.hits(c.blocks)
			c.left = max(c.prompt-c.hit*BlockTokens, 1)
		}
		n := min(room, c.left)
		s.takes = append(s.takes, n)
		room -= n
	}
	read := s.Batch - room
	s.read += read
	return s.Step + time.Duration(float64(read)/s.Prefill*float64(time.Second)) + time.Duration(len(s.running))*s.Decode
}

// finish ends a step. It calls first for each call whose prompt is read, and last for each whose answer is whole.
func (s *server) finish(first, last func(*call)) {
	going := s.running[:0]
	for _, c := range s.running {
		if c.output--; c.output > 0 {
			going = append(going, c)
			continue
		}
		s.tokens -= c.size()
		s.cache.add(c.grown)
		last(c)
	}
	s.running = going
	rest := s.reading[:0]
	for i, c := range s.reading {
		if i < len(s.takes) {
			c.left -= s.takes[i]
		}
		if i >= len(s.takes) || c.left > 0 {
			rest = append(rest, c)
			continue
		}
		s.cache.add(c.blocks)
		first(c)
		s.running = append(s.running, c)
	}
	s.reading = rest
}

// size is the room that a call takes in the KV cache, in tokens.
func (c *call) size() int { return c.prompt + c.answer }
