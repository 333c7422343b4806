package mock

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A script says how one reply goes. It is made of, each over the one before: Options, the server's
// SetScript, a directive in the prompt, request headers.
type script struct {
	tokens int
	think  int // words of reasoning when the request asks for it
	per    int // ids in one event
	pace   time.Duration
	ttft   time.Duration
	echo   bool
	call   string // the tool to call without being asked
	fault  Fault
}

// directive is how a prompt speaks to the mock: [[mock tokens=60 pace=20ms fault=die-after=5]]. The
// last one in the body counts, so that a conversation can change its mind.
var directive = []byte("[[mock ")

// fields are the words of a directive, and with x-mock- before them the request headers.
var fields = []struct {
	name string
	set  func(*script, string) error
}{
	{"tokens", func(s *script, v string) error { return setCount(&s.tokens, v) }},
	{"think", func(s *script, v string) error { return setCount(&s.think, v) }},
	{"per", func(s *script, v string) error { return setCount(&s.per, v) }},
	{"pace", func(s *script, v string) error { return setDuration(&s.pace, v) }},
	{"ttft", func(s *script, v string) error { return setDuration(&s.ttft, v) }},
	{"echo", func(s *script, v string) error { s.echo = v != "0" && v != "false"; return nil }},
	{"call", func(s *script, v string) error { s.call = v; return nil }},
	{"fault", func(s *script, v string) (err error) { s.fault, err = ParseFault(v); return err }},
}

const maxTokens = 1 << 20 // ids in one answer

func setCount(to *int, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > maxTokens {
		return fmt.Errorf("%q is not a count up to %d", v, maxTokens)
	}
	*to = n
	return nil
}

func setDuration(to *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a duration such as 20ms", v)
	}
	*to = d
	return nil
}

// parse reads "tokens=60 pace=20ms fault=die-after=5;once" over s.
func (s *script) parse(text string) error {
	for _, word := range strings.Fields(text) {
		name, value, _ := strings.Cut(word, "=")
		if err := s.set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (s *script) set(name, value string) error {
	for _, f := range fields {
		if f.name != name {
			continue
		}
		if err := f.set(s, value); err != nil {
			return fmt.Errorf("mock: %s: %w", name, err)
		}
		return nil
	}
	return fmt.Errorf("mock: unknown word %q", name)
}

// direct reads the body's last directive over s.
func (s *script) direct(body []byte) error {
	at := bytes.LastIndex(body, directive)
	if at < 0 {
		return nil
	}
	text, _, ok := bytes.Cut(body[at+len(directive):], []byte("]]"))
	if !ok {
		return nil
	}
	return s.parse(string(text))
}

// headerNames are the request headers, canonical, in the order of fields.
var headerNames = func() (names []string) {
	for _, f := range fields {
		names = append(names, http.CanonicalHeaderKey("x-mock-"+f.name))
	}
	return names
}()

// head reads the request's x-mock- headers over s.
func (s *script) head(h http.Header) error {
	for i, f := range fields {
		v := h[headerNames[i]]
		if len(v) == 0 {
			continue
		}
		if err := f.set(s, v[0]); err != nil {
			return fmt.Errorf("mock: x-mock-%s: %w", f.name, err)
		}
	}
	return nil
}
