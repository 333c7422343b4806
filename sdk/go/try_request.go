//go:build !wasip1

package nexus

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A Call is what TryRequest tells a handler of a request. Zero fields are what the gateway does not know.
type Call struct {
	Stream                               bool
	Choices, Turns, Images, Texts, Bytes int
	Systems                              int
	MaxTokens                            int64
	ID, Route, Model                     string
	Principal, Tenant, Team, Tier        string
	Labels, PrincipalLabels              map[string]string
	Headers                              map[string]string // of the caller, names in lower case
	Tools                                []string
}

// A Said is what a handler said of a request, a tool call or a usage.
type Said struct {
	Labels, Headers map[string]string
	RequestHeaders  map[string]string // for the backend
	DropHeaders     []string          // of the reply
	Model, Pool     string
	System          map[Place]string
	Answered        bool   // a request: with Text
	Dropped         bool   // a tool call: for Text
	Text            string // what is said instead
	Arguments       string // of a tool call, instead; empty: the model's own
	Refused         bool
	Status          string // of a refusal, as are the next three
	Code, Message   string
	Retry           string // seconds
}

// TryRequest runs f on a request's metadata, in the way the gateway does, and fails where the gateway would not believe
// what f says.
func TryRequest(f func(*Request), c Call) (Said, error) {
	n, err := compose(abi.HeadLength, c.head, c.records)
	if err != nil {
		return Said{}, err
	}
	return saidOf(HandleRequest(n, f), abi.Answer)
}

// compose puts a head and records into the in buffer and returns their length.
func compose(size int, head func([]byte), tell func(*records)) (uint32, error) {
	clear(out[:size]) // out is free until the handler speaks
	put32(out[:], uint32(size))
	head(out[:size])
	r := records{used: size}
	tell(&r)
	if r.full || r.used > len(in) {
		return 0, errors.New("the metadata does not fit the in buffer")
	}
	return uint32(copy(in[:], out[:r.used])), nil
}

func (c *Call) head(head []byte) {
	put32(head[abi.HeadFlags:], c.flags())
	for at, v := range map[int]int{abi.HeadChoices: c.Choices, abi.HeadTurns: c.Turns, abi.HeadImages: c.Images,
		abi.HeadTools: len(c.Tools), abi.HeadTexts: c.Texts, abi.HeadBytes: c.Bytes, abi.HeadSystems: c.Systems} {
		put32(head[at:], uint32(v))
	}
	put64(head[abi.HeadMaxTokens:], c.MaxTokens)
}

func (c *Call) flags() uint32 {
	if c.Stream {
		return abi.HeadStream
	}
	return 0
}

func put64(b []byte, v int64) {
	put32(b, uint32(v))
	put32(b[4:], uint32(v>>32))
}

// records writes all that is known of the call. Names are in order, so that the same call always reads the same.
func (c *Call) records(r *records) {
	c.known(r)
	for _, name := range c.Tools {
		r.add(abi.InTool, "", name)
	}
	named(r, abi.InHeader, c.Headers)
}

// known writes what comes with every hook.
func (c *Call) known(r *records) {
	for i, v := range []string{c.ID, c.Route, c.Model, c.Principal, c.Tenant, c.Team, c.Tier} {
		if v != "" {
			r.add(abi.InID+uint16(i), "", v)
		}
	}
	named(r, abi.InPrincipalLabel, c.PrincipalLabels)
	named(r, abi.InLabel, c.Labels)
}

func named(r *records, id uint16, all map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r.add(id, name, all[name])
	}
}

// saidOf reads what a handler said; own is the verdict that its hook alone may give.
func saidOf(word uint64, own abi.Verdict) (Said, error) {
	r := abi.Result(word)
	if r.Error() != 0 {
		return Said{}, fmt.Errorf("the plugin failed: %s", out[:r.Hold()])
	}
	v := r.Verdict()
	if v > abi.Refuse && v != own || own == abi.Pass && v > abi.Refuse {
		return Said{}, fmt.Errorf("the verdict %d means nothing here", v)
	}
	s := Said{
		Labels: map[string]string{}, Headers: map[string]string{}, RequestHeaders: map[string]string{}, System: map[Place]string{},
		Refused: v == abi.Refuse, Answered: v == abi.Answer, Dropped: v == abi.Drop,
	}
	eachRecord(out[:r.Hold()], func(id uint16, name, value []byte) bool {
		s.take(id, string(name), string(value))
		return true
	})
	if s.Arguments != "" {
		if _, err := ParseJSON([]byte(s.Arguments)); err != nil {
			return s, fmt.Errorf("the arguments %q: %w", s.Arguments, err)
		}
	}
	return s, nil
}

func (s *Said) take(id uint16, name, value string) {
	switch id {
	case abi.OutLabel:
		s.Labels[name] = value
	case abi.OutHeader:
		s.Headers[name] = value
	case abi.OutRequestHeader:
		s.RequestHeaders[name] = value
	case abi.OutDropHeader:
		s.DropHeaders = append(s.DropHeaders, name)
	case abi.OutSystem:
		s.System[Place(name)] = value
	}
	if to := s.plain(id); to != nil {
		*to = value
	}
}

// plain is where a record without a name belongs.
func (s *Said) plain(id uint16) *string {
	switch id {
	case abi.OutModel:
		return &s.Model
	case abi.OutPool:
		return &s.Pool
	case abi.OutStatus:
		return &s.Status
	case abi.OutCode:
		return &s.Code
	case abi.OutMessage:
		return &s.Message
	case abi.OutRetry:
		return &s.Retry
	case abi.OutText:
		return &s.Text
	case abi.OutArguments:
		return &s.Arguments
	}
	return nil
}
