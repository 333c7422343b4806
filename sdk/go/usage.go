package nexus

import "github.com/nexus-gateway/nexus/sdk/abi"

// A Usage is what a call has used so far, in tokens. It is valid until the handler returns, and so is every
// []byte it gives.
type Usage struct {
	facts
	verdict
}

var usage Usage

// HandleUsage runs f on the usage of n bytes that the host has left in the in buffer.
func HandleUsage(n uint32, f func(*Usage)) uint64 {
	known, ok := factsOf(n)
	if !ok {
		return failed(badFacts)
	}
	usage = Usage{facts: known}
	f(&usage)
	return usage.result()
}

func (u *Usage) Final() bool       { return u.number(abi.UsageFlags)&abi.UsageFinal != 0 }     // nothing will be added
func (u *Usage) Estimated() bool   { return u.number(abi.UsageFlags)&abi.UsageEstimated != 0 } // the gateway guessed
func (u *Usage) Prompt() int64     { return u.long(abi.UsagePrompt, 0) }
func (u *Usage) Completion() int64 { return u.long(abi.UsageCompletion, 0) }
func (u *Usage) Cached() int64     { return u.long(abi.UsageCached, 0) }    // of the prompt
func (u *Usage) Reasoning() int64  { return u.long(abi.UsageReasoning, 0) } // of the completion
func (u *Usage) Backend() []byte   { return u.value(abi.InBackend, "") }

// An End is a call that is over. It is valid until the handler returns, and so is every []byte it gives.
type End struct{ facts }

var end End

// HandleEnd runs f on the end of n bytes that the host has left in the in buffer.
func HandleEnd(n uint32, f func(*End)) {
	known, ok := factsOf(n)
	if !ok {
		return
	}
	end = End{known}
	f(&end)
}

func (e *End) Stream() bool      { return e.number(abi.EndFlags)&abi.HeadStream != 0 }
func (e *End) Complete() bool    { return e.number(abi.EndFlags)&abi.EndComplete != 0 } // the answer reached its proper end
func (e *End) Status() int       { return e.number(abi.EndStatus) }
func (e *End) Prompt() int64     { return e.long(abi.EndPrompt, 0) }
func (e *End) Completion() int64 { return e.long(abi.EndCompletion, 0) }
func (e *End) Cached() int64     { return e.long(abi.EndCached, 0) }
func (e *End) Reasoning() int64  { return e.long(abi.EndReasoning, 0) }
func (e *End) Millis() int64     { return e.long(abi.EndMillis, 0) }
func (e *End) First() int64      { return e.long(abi.EndFirst, -1) } // milliseconds to the first byte; -1: there was none
func (e *End) Backend() []byte   { return e.value(abi.InBackend, "") }
func (e *End) Failure() []byte   { return e.value(abi.InError, "") } // why it ended; nil: it ended well
