package mock

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
)

const (
	dimensions    = 16   // of an embedding unless the request says otherwise
	maxDimensions = 4096 // at most
)

func (s *Server) embeddings(w http.ResponseWriter, r *http.Request) {
	x, ok := s.begin(w, r)
	if !ok {
		return
	}
	if len(x.req.Input) == 0 {
		x.refuse(400, "input", "Field required")
		return
	}
	n := x.req.Dimensions
	if n == 0 {
		n = dimensions
	}
	if n < 0 || n > maxDimensions {
		x.refuse(400, "dimensions", "dimensions must be positive and at most "+strconv.Itoa(maxDimensions))
		return
	}
	x.once(x.embed(n))
}

// once sends a body that no model had to think for.
func (x *exchange) once(body []byte) {
	if x.misbehave(&plan{}) {
		return
	}
	x.deliver(body)
}

func (x *exchange) embed(n int) []byte {
	b := append([]byte(nil), `{"id":"embd-`+escape(x.id)+`","object":"list","created":`+strconv.FormatInt(x.s.created, 10)+`,"model":"`+escape(x.req.Model)+`","data":[`...)
	total := 0
	for i, prompt := range legacyPrompts(x.req.Input) {
		var r reading
		prompt(&r)
		total += r.count
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendInt(append(b, `{"index":`...), int64(i), 10), `,"object":"embedding","embedding":`...)
		b = append(appendVector(b, vector(r.hash, n), x.req.EncodingFormat), '}')
	}
	return append(b, `],`+promptUsage(total)+`}`...)
}

func promptUsage(n int) string {
	t := strconv.Itoa(n)
	return `"usage":{"prompt_tokens":` + t + `,"total_tokens":` + t + `,"completion_tokens":0}`
}

// vector is a point on the unit sphere that depends on hash alone.
func vector(hash uint64, n int) []float32 {
	out := make([]float32, n)
	var square float64
	for i := range out {
		hash = mix(hash, int32(i+1))
		out[i] = float32(int32(hash>>32)) / (1 << 31)
		square += float64(out[i]) * float64(out[i])
	}
	for i := range out {
		out[i] /= float32(math.Sqrt(square))
	}
	return out
}

func appendVector(b []byte, v []float32, format string) []byte {
	if format == "base64" {
		raw := make([]byte, 0, 4*len(v))
		for _, f := range v {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
		}
		return append(base64.StdEncoding.AppendEncode(append(b, '"'), raw), '"')
	}
	b = append(b, '[')
	for i, f := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(f), 'g', -1, 32)
	}
	return append(b, ']')
}

// likeness scores two texts from 0 to 1 by a hash: alike texts need not be near.
func likeness(a, b string) float64 {
	if a == b {
		return 1
	}
	var r reading
	r.readText(a)
	r.read(idTurn)
	r.readText(b)
	return float64(mix(r.hash, 1)>>11) / (1 << 53)
}

type rank struct {
	at    int
	score float64
}

func (s *Server) rerank(w http.ResponseWriter, r *http.Request) {
	x, ok := s.begin(w, r)
	if !ok {
		return
	}
	if len(x.req.Documents) == 0 {
		x.refuse(400, "documents", "Field required")
		return
	}
	ranks := make([]rank, len(x.req.Documents))
	for i, d := range x.req.Documents {
		ranks[i] = rank{i, likeness(x.req.Query, d)}
	}
	slices.SortFunc(ranks, func(a, b rank) int { return -int(math.Copysign(1, a.score-b.score)) })
	if n := x.req.TopN; n > 0 && n < len(ranks) {
		ranks = ranks[:n]
	}
	b := append([]byte(nil), `{"id":"rerank-`+escape(x.id)+`","model":"`+escape(x.req.Model)+`","usage":{"total_tokens":`+strconv.Itoa(x.pairTokens())+`},"results":[`...)
	for i, k := range ranks {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendInt(append(b, `{"index":`...), int64(k.at), 10), `,"document":{"text":"`+escape(x.req.Documents[k.at])+`"},"relevance_score":`...)
		b = append(strconv.AppendFloat(b, k.score, 'g', 8, 64), '}')
	}
	x.once(append(b, `]}`...))
}

// pairTokens counts what a reranker reads: the query before each document.
func (x *exchange) pairTokens() (n int) {
	for _, d := range x.req.Documents {
		tokens(x.req.Query, func(int32) { n++ })
		tokens(d, func(int32) { n++ })
	}
	return n
}

func (s *Server) score(w http.ResponseWriter, r *http.Request) {
	x, ok := s.begin(w, r)
	if !ok {
		return
	}
	left, right := texts(x.req.Text1), texts(x.req.Text2)
	if len(left) == 0 || len(right) == 0 || len(left) != 1 && len(left) != len(right) {
		x.refuse(400, "text_1", "text_1 is one text or as many as text_2")
		return
	}
	b := append([]byte(nil), `{"id":"score-`+escape(x.id)+`","object":"list","created":`+strconv.FormatInt(s.created, 10)+`,"model":"`+escape(x.req.Model)+`","data":[`...)
	total := 0
	for i, t := range right {
		if i > 0 {
			b = append(b, ',')
		}
		from := left[min(i, len(left)-1)]
		tokens(from, func(int32) { total++ })
		tokens(t, func(int32) { total++ })
		b = append(strconv.AppendInt(append(b, `{"index":`...), int64(i), 10), `,"object":"score","score":`...)
		b = append(strconv.AppendFloat(b, likeness(from, t), 'g', 8, 64), '}')
	}
	x.once(append(b, `],`+promptUsage(total)+`}`...))
}

func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) {
	x, ok := s.begin(w, r)
	if !ok {
		return
	}
	read := reading{keep: true}
	if len(x.req.Messages) > 0 {
		x.req.template(&read, s.opts.Kind)
	} else {
		var text string
		_ = json.Unmarshal(x.req.Prompt, &text) // no text: no ids
		read.readText(text)
	}
	b := append([]byte(nil), `{"count":`+strconv.Itoa(read.count)+`,"max_model_len":`+strconv.Itoa(s.opts.MaxContext)+`,"tokens":`...)
	x.once(append(appendIDs(b, read.ids), `,"token_strs":null}`...))
}
