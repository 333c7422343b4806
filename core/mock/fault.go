package mock

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Fault is how one reply goes wrong. Its zero value is none.
type Fault struct {
	text string

	cut     cut // what happens once at pieces of the answer have been sent
	at      int
	lasting time.Duration // of a stall or a hang; 0: until the client leaves

	status    int    // answer this status instead
	retry     string // with this Retry-After
	code      int    // code of an in-band error
	overflow  bool   // the refusal is context_length_exceeded
	malformed int    // before this piece (from 1) an event of broken JSON
	drip      time.Duration
	big       int // bytes of one extra comment-like event
	once      bool
	fresh     bool // continued answers are spared

	flags map[flag]bool
}

type cut uint8

const (
	cutNone  cut = iota
	cutDie       // the connection closes, the body unfinished
	cutReset     // the same by TCP reset
	cutEOF       // the body ends as if all were well
	cutStall     // silence
	cutError     // an error event, then [DONE]
	cutAbort     // finish_reason abort, then [DONE]
)

var cuts = map[string]cut{
	"die-after": cutDie, "reset-after": cutReset, "eof-after": cutEOF,
	"stall-after": cutStall, "error-in-band": cutError, "abort-finish": cutAbort,
}

type flag string

// The faults without a value.
const (
	noDone       flag = "no-done"
	noUsage      flag = "no-usage"
	reset        flag = "reset"        // TCP reset before any byte
	garbageFirst flag = "garbage-line" // no HTTP at all
	empty200     flag = "empty-200"
	html         flag = "html"
	headersOnly  flag = "headers-then-nothing"
	twoDones     flag = "two-dones"
	trailing     flag = "trailing-garbage"
	badUTF8      flag = "bad-utf8"
	zipped       flag = "gzip"
	crlf         flag = "crlf"
	bytewise     flag = "bytewise"
	noSpace      flag = "no-space" // data:{…}
	comments     flag = "comments" // an SSE comment before each event
	hang         flag = "hang"
	filtered     flag = "content-filter" // 400, refused by the provider's filter
	noPrefill    flag = "no-prefill"     // 400 when the last message is the assistant's
)

var knownFlags = []flag{noDone, noUsage, reset, garbageFirst, empty200, html, headersOnly, twoDones, trailing, badUTF8, zipped, crlf, bytewise, noSpace, comments, hang, filtered, noPrefill}

// values are the faults and modifiers with a value besides the cuts.
var values = map[string]func(*Fault, string) error{
	"status":          func(f *Fault, v string) error { return setCount(&f.status, v) },
	"retry-after":     func(f *Fault, v string) error { f.retry = v; return nil },
	"code":            func(f *Fault, v string) error { return setCount(&f.code, v) },
	"malformed-chunk": func(f *Fault, v string) error { return setCount(&f.malformed, v) },
	"big-event":       func(f *Fault, v string) error { return setBytes(&f.big, v) },
	"for":             func(f *Fault, v string) error { return setDuration(&f.lasting, v) },
	"slow-drip":       setDrip,
	"error-first":     func(f *Fault, _ string) error { f.cut, f.at = cutError, -1; return nil },
	"context-length":  func(f *Fault, _ string) error { f.status, f.overflow = 400, true; return nil },
	"once":            func(f *Fault, _ string) error { f.once = true; return nil },
	"fresh":           func(f *Fault, _ string) error { f.fresh = true; return nil },
}

// ParseFault reads faults and their modifiers parted by semicolons, such as "die-after=5" or
// "status=429;retry-after=2;once=a". The package comment lists them.
func ParseFault(text string) (Fault, error) {
	f := Fault{text: text}
	for part := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if err := f.set(name, value); err != nil {
			return Fault{}, fmt.Errorf("mock: fault %q: %w", part, err)
		}
	}
	return f, nil
}

func (f *Fault) set(name, value string) error {
	if name == "" || name == "none" {
		return nil
	}
	if c, ok := cuts[name]; ok {
		f.cut = c
		return setCount(&f.at, value)
	}
	if set, ok := values[name]; ok {
		return set(f, value)
	}
	for _, k := range knownFlags {
		if string(k) == name {
			f.raise(k)
			return nil
		}
	}
	return fmt.Errorf("unknown")
}

func (f *Fault) raise(k flag) {
	if f.flags == nil {
		f.flags = map[flag]bool{}
	}
	f.flags[k] = true
}

func (f *Fault) has(k flag) bool { return f.flags != nil && f.flags[k] }

const maxBigEvent = 64 << 20 // bytes

func setBytes(to *int, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > maxBigEvent {
		return fmt.Errorf("%q is not a number of bytes up to %d", v, maxBigEvent)
	}
	*to = n
	return nil
}

// setDrip reads the wait before each byte; without a value it is a second.
func setDrip(f *Fault, v string) error {
	if v == "" {
		v = "1s"
	}
	return setDuration(&f.drip, v)
}

// plain says that events go out as they are, in one write each.
func (f *Fault) plain() bool { return f.flags == nil && f.drip == 0 }
