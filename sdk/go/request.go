package nexus

import "github.com/nexus-gateway/nexus/sdk/abi"

// A Request is what is known of a call before it is decided on: everything but its texts. It is valid
// until the handler returns, and so is every []byte it gives.
type Request struct {
	facts
	verdict
}

var request Request

// HandleRequest runs f on the metadata of n bytes that the host has left in the in buffer.
func HandleRequest(n uint32, f func(*Request)) uint64 {
	known, ok := factsOf(n)
	if !ok {
		return failed(badFacts)
	}
	request = Request{facts: known}
	f(&request)
	return request.result()
}

const badFacts = "metadata does not fit the buffer it was promised to be in"

func (r *Request) Stream() bool { return r.number(abi.HeadFlags)&abi.HeadStream != 0 }
func (r *Request) Choices() int { return r.number(abi.HeadChoices) } // answers asked for
func (r *Request) Turns() int   { return r.number(abi.HeadTurns) }   // messages
func (r *Request) Systems() int { return r.number(abi.HeadSystems) } // of these, system and developer messages
func (r *Request) Images() int  { return r.number(abi.HeadImages) }  // image parts
func (r *Request) Tools() int   { return r.number(abi.HeadTools) }   // functions offered
func (r *Request) Texts() int   { return r.number(abi.HeadTexts) }   // texts in the body
func (r *Request) Bytes() int   { return r.number(abi.HeadBytes) }   // bytes of the body

// MaxTokens is the most tokens the caller will have, -1 when it did not say.
func (r *Request) MaxTokens() int64 { return r.long(abi.HeadMaxTokens, -1) }

// Header is the caller's header of that name, in lower case; nil: none. The manifest asks for the capability
// "headers".
func (r *Request) Header(name string) []byte { return r.value(abi.InHeader, name) }

// EachTool calls f with the name of every function offered.
func (r *Request) EachTool(f func(name []byte)) {
	eachRecord(r.rest, func(id uint16, _, value []byte) bool {
		if id == abi.InTool {
			f(value)
		}
		return true
	})
}

// SetLabel tells policy and log what the plugin found out.
func (r *Request) SetLabel(name, value string) { r.out.add(abi.OutLabel, name, value) }

// SetHeader sets a header of the reply; the manifest asks for the capability "headers", as for the next two.
func (r *Request) SetHeader(name, value string) { r.out.add(abi.OutHeader, name, value) }

// DropHeader takes a header out of the reply.
func (r *Request) DropHeader(name string) { r.out.add(abi.OutDropHeader, name, "") }

// SetRequestHeader sends a header to the backend; with an empty value, one that an earlier plugin set is not sent.
func (r *Request) SetRequestHeader(name, value string) { r.out.add(abi.OutRequestHeader, name, value) }

// SetModel chooses the model; the manifest asks for the capability "model".
func (r *Request) SetModel(name string) { r.out.add(abi.OutModel, "", name) }

// SetPool chooses the pool where policy names no target; the manifest asks for the capability "pool".
func (r *Request) SetPool(name string) { r.out.add(abi.OutPool, "", name) }

// A Place says where a system prompt goes, as seen from the first system message of the request.
type Place string

const (
	Before  Place = abi.SystemBefore
	After   Place = abi.SystemAfter
	Instead Place = abi.SystemReplace
)

// SetSystem tells the model something first. A request without a system message gets one. The manifest asks for
// the capability "system".
func (r *Request) SetSystem(where Place, text string) { r.out.add(abi.OutSystem, string(where), text) }

// Answer answers the call with text; no backend is asked. The manifest asks for the capability "answer".
func (r *Request) Answer(text string) {
	r.verdict.verdict = abi.Answer
	r.out.add(abi.OutText, "", text)
}
