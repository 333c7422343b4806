package upstream

import (
	"context"
	"errors"
	"io"
	"math/bits"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A stream is a backend's streamed answer. It notes usage and finish reasons as they pass, hides what
// only the gateway asked for, and turns every way in which an answer can end short into an error:
// neither a status of 200 nor [DONE] is taken for success, only a finish reason of every choice.
type stream struct {
	*live
	order    order
	watch    *watch
	response *http.Response
	keep     *transcript // takes down what is delivered; nil: the answer cannot go on elsewhere

	mu       sync.Mutex // held by Next, and by Close to give the reader's buffers back
	reader   *llm.Reader
	held     llm.Chunk // the first chunk, read before the reply was made
	hasHeld  bool
	more     bool      // the next chunk lies ready, so no time need be bounded
	tail     time.Time // when all that may follow the finish must be there; zero: not finished
	err      error     // what every further Next returns
	ended    bool      // [DONE] has passed
	open     choices
	pace     pace
	rest     int64 // estimated completion tokens, until the backend counts
	buf      []byte
	closed   bool
	passed   bool        // an event has
	whole    atomic.Bool // the body has been read to its end
	finished error       // what the attempt ended with, for its span
	fault    *fault      // what broke the answer off; nil: nothing, or the caller left
}

// newStream waits for the first event, so that everything that fails before it can be tried elsewhere.
func newStream(l *live, o order, w *watch, response *http.Response) (*llm.Reply, *fault) {
	o.body = nil // it is sent, and the stream may last
	s := &stream{live: l, order: o, watch: w, response: response}
	s.reader = llm.NewReader(response.Body, l.call.Route, maxEvent)
	chunk, err := s.read()
	for err == nil && (chunk.Kind == llm.Comment || chunk.Kind == llm.Malformed) {
		chunk, err = s.read()
	}
	if err == nil && chunk.View != nil && chunk.View.Error {
		f := inBandFault(chunk.Data)
		s.discard()
		return nil, f
	}
	if err != nil || chunk.Kind == llm.Done {
		s.discard()
		return nil, answerFault("ended before it began", errors.Join(w.cause(err), errEmpty))
	}
	l.call.Outcome.FirstByte = time.Since(l.sent)
	s.held, s.hasHeld = chunk, true
	header := http.Header{"Content-Type": eventType}
	return &llm.Reply{Status: http.StatusOK, Header: header, Stream: s}, nil
}

var errEmpty = errors.New("an event stream without an event")

// discard ends a stream that never became a reply; the attempt itself calls done.
func (s *stream) discard() {
	s.closed = true
	s.watch.drop()
	s.reader.Release()
}

// Next returns the next chunk of the answer, or an error that says how the answer ended short.
func (s *stream) Next() (llm.Chunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return llm.Chunk{}, s.err
	}
	chunk, err := s.take()
	if err != nil {
		return s.finish(err)
	}
	return s.pass(chunk)
}

// take returns the held chunk or reads the next one within the time between tokens.
func (s *stream) take() (llm.Chunk, error) {
	if s.hasHeld {
		s.hasHeld = false
		return s.held, nil
	}
	if s.closed {
		return llm.Chunk{}, io.ErrClosedPipe
	}
	if !s.more {
		now := time.Now()
		if s.pace.slow(now, s.watch.timeouts.MinRate) {
			return llm.Chunk{}, errSlow
		}
		s.await(now)
	}
	return s.read()
}

func (s *stream) read() (llm.Chunk, error) {
	chunk, err := s.reader.Next()
	s.more = chunk.More
	return chunk, err
}

// Once every choice has finished only usage and [DONE] are to come, and after [DONE] only the end of the
// body, which is waited for so that the connection can serve again: neither may hold the caller up, by
// silence or by chatter.
const (
	tailWait = 5 * time.Second
	endWait  = 20 * time.Millisecond
)

// await bounds the time until the next event.
func (s *stream) await(now time.Time) {
	if s.tail.IsZero() {
		s.watch.enter(now, s.watch.timeouts.Between, errBetween)
		return
	}
	s.watch.until(s.tail, errBetween)
}

// A pace counts the events with tokens of a window of time.
type pace struct {
	since  time.Time // when the window began
	events int
}

const paceWindow = time.Minute

// slow reports whether a window has ended with fewer events a second than rate; 0 is no rate.
func (p *pace) slow(now time.Time, rate float64) bool {
	past := now.Sub(p.since)
	if rate <= 0 || !p.since.IsZero() && past < paceWindow {
		return false
	}
	slow := !p.since.IsZero() && float64(p.events) < rate*past.Seconds()
	*p = pace{since: now}
	return slow
}

// settle begins the tail once every choice has finished. Another choice may yet begin.
func (s *stream) settle() {
	if !s.settled() {
		s.tail = time.Time{}
		return
	}
	if s.tail.IsZero() {
		wait := tailWait
		if between := s.watch.timeouts.Between; between > 0 {
			wait = min(wait, between)
		}
		s.tail = time.Now().Add(wait)
	}
}

func (s *stream) settled() bool { return s.open.settled(s.call) }

// pass notes what a chunk says and hides what the caller did not ask for.
func (s *stream) pass(chunk llm.Chunk) (llm.Chunk, error) {
	switch chunk.Kind {
	case llm.Malformed, llm.Comment:
		chunk.Raw = nil // an SDK throws on an event that is not JSON; the answer may still be whole
		return chunk, nil
	case llm.Done:
		return s.passDone(chunk)
	}
	if s.ended {
		chunk.Raw = nil // garbage after the end
		return chunk, nil
	}
	v := chunk.View
	if v.Error {
		return s.fail(inBandFault(chunk.Data))
	}
	s.open.note(v)
	if s.call.Route == llm.Responses && len(v.Finishes) > 0 {
		s.open.ended = s.open.begun // one finish ends every output item
	}
	s.settle()
	if len(v.Texts)+len(v.Calls) > 0 || v.Tokens.At.Len() > 0 {
		s.pace.events++
	}
	s.estimate(v)
	note(s.call, v)
	if aborted(v) {
		return s.fail(answerFault("was aborted", nil))
	}
	if s.keep != nil {
		s.keep.note(&chunk)
	}
	s.hide(&chunk)
	s.passed = true
	return chunk, nil
}

func (s *stream) passDone(chunk llm.Chunk) (llm.Chunk, error) {
	if s.ended {
		chunk.Raw = nil // a second [DONE]
		return chunk, nil
	}
	if !s.settled() {
		return s.fail(answerFault("ended without being finished", errUnfinished))
	}
	s.ended = true
	s.tail = time.Now().Add(endWait)
	s.guess()
	return chunk, nil
}

// guess estimates the prompt where no backend counted: the engine has read it, whatever it told of it. Plugins are
// told of it before the end is.
func (s *stream) guess() {
	if o := &s.call.Outcome; !o.Counted {
		o.Usage.Prompt = estimatePrompt(s.call)
	}
}

// aborted reports whether a choice ends because the engine gave up.
func aborted(v *llm.View) bool {
	for i := range v.Finishes {
		switch v.Finishes[i].Reason {
		case "abort", "error", "failed":
			return true
		}
	}
	return false
}

var errUnfinished = errors.New("[DONE] before a finish reason of every choice")

// finish says what the end of the body means.
func (s *stream) finish(err error) (llm.Chunk, error) {
	s.whole.Store(err == io.EOF)
	if s.ended || s.settled() {
		return s.conclude()
	}
	if s.watch.ctx.Err() != nil { // the caller left, or the gateway stops: not the backend's failure
		s.err = context.Cause(s.watch.ctx)
		s.finished = s.err
		return llm.Chunk{}, s.err
	}
	return s.fail(answerFault("was cut off", s.watch.cause(err)))
}

// conclude ends a whole answer, with the [DONE] that a backend may have left out.
func (s *stream) conclude() (llm.Chunk, error) {
	s.err = io.EOF
	s.guess()
	if !s.ended && s.call.Route != llm.Responses {
		return llm.Chunk{Raw: doneEvent, Kind: llm.Done}, nil
	}
	return llm.Chunk{}, io.EOF
}

var doneEvent = []byte("data: [DONE]\n\n")

func (s *stream) fail(f *fault) (llm.Chunk, error) {
	s.call.Outcome.Finish = "error"
	s.fault, s.err, s.finished = f, f.refusal, f.refusal
	s.broke(f)
	return llm.Chunk{}, s.err
}

// estimate counts what is delivered while the backend has not counted itself.
func (s *stream) estimate(v *llm.View) {
	if s.call.Outcome.Counted || len(v.Texts) == 0 {
		return
	}
	for _, t := range v.Texts {
		s.rest += int64(t.At.Len()+3) / 4
	}
	s.call.Outcome.Usage.Completion = s.rest
}

// note keeps what a chunk says of the answer as a whole.
func note(c *pipeline.Call, v *llm.View) {
	if v.HasUsage {
		c.Outcome.Usage, c.Outcome.Counted = v.Usage, true
	}
	if c.Outcome.Model == "" && v.Model != "" {
		c.Outcome.Model = string([]byte(v.Model))
	}
	if len(v.Finishes) > 0 && c.Outcome.Finish == "" {
		c.Outcome.Finish = finishReason(v.Finishes[0].Reason)
	}
}

// finishReason returns a lasting copy, without allocating for the usual ones.
func finishReason(reason string) string {
	for _, known := range [...]string{"stop", "length", "tool_calls", "content_filter", "abort", "error", "completed", "incomplete", "failed"} {
		if reason == known {
			return known
		}
	}
	return string([]byte(reason))
}

// Close cancels what is still under way at the backend and gives everything back.
func (s *stream) Close() error {
	if !s.whole.Load() {
		s.watch.abort() // makes a waiting Next return, and the backend stop
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.err == nil {
		s.err = io.ErrClosedPipe
	}
	if s.whole.Load() {
		s.watch.keep(s.response)
	} else {
		s.watch.drop()
	}
	s.reader.Release()
	s.guess()
	s.done(s.finished)
	return nil
}

// choices remembers which of an answer's choices have begun and ended.
type choices struct {
	begun, ended [2]uint64
}

const maxChoices = 128 // told apart

func (o *choices) note(v *llm.View) {
	for i := range v.Texts {
		set(&o.begun, v.Texts[i].Choice)
	}
	for i := range v.Finishes {
		set(&o.begun, v.Finishes[i].Choice)
		set(&o.ended, v.Finishes[i].Choice)
	}
}

// settled reports whether as many choices have finished as c asks for, and no other has begun.
func (o *choices) settled(c *pipeline.Call) bool {
	return o.finished() && o.count() >= int(min(c.Request.N, maxChoices))
}

func (o *choices) finished() bool { return o.begun == o.ended && o.ended != [2]uint64{} }

func (o *choices) count() int { return bits.OnesCount64(o.ended[0]) + bits.OnesCount64(o.ended[1]) }

func set(of *[2]uint64, choice int) {
	if choice >= 0 && choice < maxChoices {
		of[choice/64] |= 1 << (choice % 64)
	}
}
