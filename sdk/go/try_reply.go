//go:build !wasip1

package nexus

import "github.com/nexus-gateway/nexus/sdk/abi"

// A Called is what TryToolCall tells a handler: the call of the gateway, and the tool call in its reply.
type Called struct {
	Call
	Choice, Index int
	CallID, Name  string
	Arguments     string // JSON text
	Schema        string // empty: the request did not offer the function
}

// TryToolCall runs f on a complete tool call, in the way the gateway does.
func TryToolCall(f func(*ToolCall), c Called) (Said, error) {
	n, err := compose(abi.CallLength, func(head []byte) {
		put32(head[abi.CallFlags:], c.flags())
		put32(head[abi.CallChoice:], uint32(c.Choice))
		put32(head[abi.CallIndex:], uint32(c.Index))
	}, func(r *records) {
		c.known(r)
		r.add(abi.InToolCallID, "", c.CallID)
		r.add(abi.InToolName, "", c.Name)
		r.add(abi.InArguments, "", c.Arguments)
		if c.Schema != "" {
			r.add(abi.InSchema, "", c.Schema)
		}
	})
	if err != nil {
		return Said{}, err
	}
	return saidOf(HandleToolCall(n, f), abi.Drop)
}

// A Used is what TryUsage tells a handler: the call, and what it has used so far, in tokens.
type Used struct {
	Call
	Final, Estimated                      bool
	Prompt, Completion, Cached, Reasoning int64
	Backend                               string
}

// TryUsage runs f on a call's usage, in the way the gateway does.
func TryUsage(f func(*Usage), u Used) (Said, error) {
	n, err := compose(abi.UsageLength, func(head []byte) {
		var flags uint32
		if u.Final {
			flags |= abi.UsageFinal
		}
		if u.Estimated {
			flags |= abi.UsageEstimated
		}
		put32(head[abi.UsageFlags:], flags)
		u.tokens(head[abi.UsagePrompt:])
	}, u.tell)
	if err != nil {
		return Said{}, err
	}
	return saidOf(HandleUsage(n, f), abi.Pass)
}

// tokens writes the four counts, which stand in a row.
func (u *Used) tokens(b []byte) {
	for i, n := range []int64{u.Prompt, u.Completion, u.Cached, u.Reasoning} {
		put64(b[8*i:], n)
	}
}

func (u *Used) tell(r *records) {
	u.known(r)
	if u.Backend != "" {
		r.add(abi.InBackend, "", u.Backend)
	}
}

// An Ended is what TryEnd tells a handler: the call, what it used, and how it ended.
type Ended struct {
	Used
	Complete      bool
	Status        int
	Millis, First int64  // First: -1 when there was no first byte
	Failure       string // empty: it ended well
}

// TryEnd runs f on a call that is over, in the way the gateway does.
func TryEnd(f func(*End), e Ended) error {
	n, err := compose(abi.EndLength, func(head []byte) {
		flags := e.flags()
		if e.Complete {
			flags |= abi.EndComplete
		}
		put32(head[abi.EndFlags:], flags)
		put32(head[abi.EndStatus:], uint32(e.Status))
		e.tokens(head[abi.EndPrompt:])
		put64(head[abi.EndMillis:], e.Millis)
		put64(head[abi.EndFirst:], e.First)
	}, func(r *records) {
		e.tell(r)
		if e.Failure != "" {
			r.add(abi.InError, "", e.Failure)
		}
	})
	if err == nil {
		HandleEnd(n, f)
	}
	return err
}
