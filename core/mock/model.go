package mock

import "strings"

// A reading is what the model remembers of the ids read so far. What it says next is a function of it
// alone, so that reading an answer's beginning again goes on exactly where it stopped.
type reading struct {
	hash     uint64
	before   uint64 // the hash where the thinking began: thoughts leave no trace in the answer
	thinking bool
	opened   bool // the last id was the start of a turn
	run      int  // how many of the last ids were the model's own words
	since    int  // ids since the turn began
	count    int
	keep     bool // keep ids
	ids      []int32
	blocks   *[]uint64 // when set, gets the hash at the end of each block of ids
}

// block is how many ids share one entry of the prefix cache: with three or four bytes an id about the
// 256 bytes that routers reckon with.
const block = 64

func mix(h uint64, id int32) uint64 {
	h = (h ^ uint64(uint32(id))) * 0x9E3779B97F4A7C15
	return h ^ h>>29
}

// word is what the model says next.
func (r *reading) word() int32 {
	h := r.hash * 0xBF58476D1CE4E5B9
	return firstWord + int32((h>>33)%uint64(len(words)))
}

func (r *reading) read(id int32) {
	r.count++
	if r.keep {
		r.ids = append(r.ids, id)
	}
	r.since++
	r.opened = false
	switch id {
	case idThink:
		r.before, r.thinking, r.run = r.hash, true, 0
		r.hash = mix(r.hash, id)
	case idThought:
		r.hash, r.thinking, r.run = r.before, false, 0
	default:
		r.readPlain(id)
	}
	if r.blocks != nil && r.count%block == 0 {
		*r.blocks = append(*r.blocks, r.hash)
	}
}

func (r *reading) readPlain(id int32) {
	if id == r.word() {
		r.run++
	} else {
		r.run = 0
	}
	r.hash = mix(r.hash, id)
	if id >= idSystem && id <= idTool {
		r.opened, r.since = true, 0
	}
}

func (r *reading) readText(t string) { tokens(t, r.read) }

// An answer is all that one choice will say, decided before the first byte leaves.
type answer struct {
	ids      []int32
	thoughts int    // how many of ids, from the first, are thinking, its marks included
	finish   string // stop or length
	stop     string // the stop string that ended it
	last     string // the text of the last id when a stop string cut it
	cut      bool
}

// A length says how long an answer is.
type length struct {
	words  int     // the answer's words, counted from its beginning even when it is continued
	think  int     // words of thinking before them; 0 for none
	limit  int     // ids at most this time; 0 for no limit
	script []int32 // said instead of words, from position since
}

// say makes the answer that follows r.
func (r *reading) say(n length) answer {
	r.keep, r.ids, r.blocks = false, nil, nil
	a := answer{finish: "stop"}
	for {
		id := r.next(n)
		if id == idEnd {
			return a
		}
		if n.limit > 0 && len(a.ids) >= n.limit {
			a.finish = "length"
			return a
		}
		a.ids = append(a.ids, id)
		r.read(id)
		if r.thinking || id == idThought {
			a.thoughts = len(a.ids)
		}
	}
}

func (r *reading) next(n length) int32 {
	switch {
	case n.think > 0 && r.opened:
		return idThink
	case r.thinking && r.run >= n.think:
		return idThought
	case r.thinking:
		return r.word()
	case n.script != nil:
		return nextOf(n.script, r.since)
	case r.run >= n.words:
		return idEnd
	}
	return r.word()
}

func nextOf(script []int32, at int) int32 {
	if at >= len(script) {
		return idEnd
	}
	return script[at]
}

// until ends the answer before the first stop string in its text.
func (a *answer) until(stops []string) {
	var text strings.Builder
	ends := make([]int, len(a.ids))
	for i, id := range a.ids {
		text.WriteString(textOf(id))
		ends[i] = text.Len()
	}
	at := -1
	for _, s := range stops {
		if i := strings.Index(text.String(), s); s != "" && i >= 0 && (at < 0 || i < at) {
			at, a.stop = i, s
		}
	}
	if at >= 0 {
		a.truncate(ends, at)
	}
}

func (a *answer) truncate(ends []int, at int) {
	for i, end := range ends {
		if end < at {
			continue
		}
		t := textOf(a.ids[i])
		a.ids, a.finish, a.cut = a.ids[:i+1], "stop", true
		a.last = t[:len(t)-(end-at)]
		return
	}
}

// piece is the JSON-escaped text of the answer's id i.
func (a *answer) piece(i int) string {
	if a.cut && i == len(a.ids)-1 {
		return escape(a.last)
	}
	return escaped(a.ids[i])
}
