//go:build !wasip1

package nexus

import (
	"errors"
	"fmt"

	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A Call is what TryRequest tells a handler of a request. Zero fields are what the gateway does not know.
type Call struct {
	Stream                               bool
	Choices, Turns, Images, Texts, Bytes int
	MaxTokens                            int64
	ID, Route, Model                     string
	Principal, Tenant, Team, Tier        string
	Labels, PrincipalLabels              map[string]string
	Tools                                []string
}

// A Said is what a handler said of a request.
type Said struct {
	Labels, Headers map[string]string
	Model           string
	Refused         bool
	Status          string // of a refusal, as are the next two
	Code, Message   string
}

// TryRequest runs f on a request's metadata, in the way the gateway does.
func TryRequest(f func(*Request), c Call) (Said, error) {
	n, err := c.write()
	if err != nil {
		return Said{}, err
	}
	r := abi.Result(HandleRequest(n, f))
	if r.Error() != 0 {
		return Said{}, fmt.Errorf("the plugin failed: %s", out[:r.Hold()])
	}
	s := Said{Labels: map[string]string{}, Headers: map[string]string{}, Refused: r.Verdict() == abi.Refuse}
	eachRecord(out[:r.Hold()], func(id uint16, name, value []byte) bool {
		s.take(id, string(name), string(value))
		return true
	})
	return s, nil
}

func (s *Said) take(id uint16, name, value string) {
	switch id {
	case abi.OutLabel:
		s.Labels[name] = value
	case abi.OutHeader:
		s.Headers[name] = value
	case abi.OutModel:
		s.Model = value
	case abi.OutStatus:
		s.Status = value
	case abi.OutCode:
		s.Code = value
	case abi.OutMessage:
		s.Message = value
	}
}

// write puts the metadata into the in buffer and returns its length.
func (c *Call) write() (uint32, error) {
	var flags uint32
	if c.Stream {
		flags = abi.HeadStream
	}
	head := out[:abi.HeadLength] // out is free until the handler speaks
	put32(head[abi.HeadSize:], abi.HeadLength)
	put32(head[abi.HeadFlags:], flags)
	for at, v := range map[int]int{abi.HeadChoices: c.Choices, abi.HeadTurns: c.Turns, abi.HeadImages: c.Images,
		abi.HeadTools: len(c.Tools), abi.HeadTexts: c.Texts, abi.HeadBytes: c.Bytes} {
		put32(head[at:], uint32(v))
	}
	put32(head[abi.HeadMaxTokens:], uint32(c.MaxTokens))
	put32(head[abi.HeadMaxTokens+4:], uint32(c.MaxTokens>>32))
	r := records{used: abi.HeadLength}
	for id, v := range map[uint16]string{abi.InID: c.ID, abi.InRoute: c.Route, abi.InModel: c.Model, abi.InPrincipal: c.Principal,
		abi.InTenant: c.Tenant, abi.InTeam: c.Team, abi.InTier: c.Tier} {
		r.add(id, "", v)
	}
	for name, v := range c.Labels {
		r.add(abi.InLabel, name, v)
	}
	for name, v := range c.PrincipalLabels {
		r.add(abi.InPrincipalLabel, name, v)
	}
	for _, name := range c.Tools {
		r.add(abi.InTool, "", name)
	}
	if r.full || r.used > len(in) {
		return 0, errors.New("the metadata does not fit the in buffer")
	}
	return uint32(copy(in[:], out[:r.used])), nil
}
