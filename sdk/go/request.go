package nexus

import "github.com/nexus-gateway/nexus/sdk/abi"

// A Request is what is known of a call before it is decided on: everything but its texts. It is valid
// until the handler returns, and so is every []byte it gives.
type Request struct {
	head    []byte
	rest    []byte // the records
	out     records
	verdict abi.Verdict
	err     string
}

var request Request

// HandleRequest runs f on the metadata of n bytes that the host has left in the in buffer.
func HandleRequest(n uint32, f func(*Request)) uint64 {
	if int(n) > len(in) || n < 4 || get32(in[:]) < 4 || get32(in[:]) > n {
		return failed("metadata does not fit the buffer it was promised to be in")
	}
	size := get32(in[:])
	request = Request{head: in[:size], rest: in[size:n]}
	f(&request)
	if request.out.full {
		request.err = "more said than the out buffer holds"
	}
	if request.err != "" {
		return failed(request.err)
	}
	return uint64(abi.Pack(uint32(request.out.used), request.verdict, 0, 0))
}

// number reads a field of the head; a host that writes a shorter head leaves it 0.
func (r *Request) number(at int) int {
	if at+4 > len(r.head) {
		return 0
	}
	return int(get32(r.head[at:]))
}

func (r *Request) Stream() bool { return r.number(abi.HeadFlags)&abi.HeadStream != 0 }
func (r *Request) Choices() int { return r.number(abi.HeadChoices) } // answers asked for
func (r *Request) Turns() int   { return r.number(abi.HeadTurns) }   // messages
func (r *Request) Images() int  { return r.number(abi.HeadImages) }  // image parts
func (r *Request) Tools() int   { return r.number(abi.HeadTools) }   // functions offered
func (r *Request) Texts() int   { return r.number(abi.HeadTexts) }   // texts in the body
func (r *Request) Bytes() int   { return r.number(abi.HeadBytes) }   // bytes of the body

// MaxTokens is the most tokens the caller will have, -1 when it did not say.
func (r *Request) MaxTokens() int64 {
	if abi.HeadMaxTokens+8 > len(r.head) {
		return -1
	}
	b := r.head[abi.HeadMaxTokens:]
	return int64(uint64(get32(b)) | uint64(get32(b[4:]))<<32)
}

func (r *Request) ID() []byte        { return r.value(abi.InID, "") }
func (r *Request) Route() []byte     { return r.value(abi.InRoute, "") } // chat, completions, …
func (r *Request) Model() []byte     { return r.value(abi.InModel, "") }
func (r *Request) Principal() []byte { return r.value(abi.InPrincipal, "") }
func (r *Request) Tenant() []byte    { return r.value(abi.InTenant, "") }
func (r *Request) Team() []byte      { return r.value(abi.InTeam, "") }
func (r *Request) Tier() []byte      { return r.value(abi.InTier, "") }

// Label is what an earlier plugin said under name; nil: nothing.
func (r *Request) Label(name string) []byte { return r.value(abi.InLabel, name) }

// PrincipalLabel is the caller's own label of that name; nil: none.
func (r *Request) PrincipalLabel(name string) []byte { return r.value(abi.InPrincipalLabel, name) }

// EachTool calls f with the name of every function offered.
func (r *Request) EachTool(f func(name []byte)) {
	r.each(func(id uint16, _, value []byte) bool {
		if id == abi.InTool {
			f(value)
		}
		return true
	})
}

func (r *Request) value(id uint16, name string) (found []byte) {
	r.each(func(i uint16, n, v []byte) bool {
		if i == id && string(n) == name {
			found = v
		}
		return found == nil
	})
	return found
}

// each calls f for every whole record until it returns false.
func (r *Request) each(f func(id uint16, name, value []byte) bool) {
	for b := r.rest; len(b) >= abi.RecordHeader; {
		name := abi.RecordHeader + uint64(get16(b[abi.RecordName:]))
		end := name + uint64(get32(b[abi.RecordValue:]))
		if end > uint64(len(b)) || !f(get16(b), b[abi.RecordHeader:name], b[name:end]) {
			return
		}
		b = b[end:]
	}
}

// SetLabel tells policy and log what the plugin found out.
func (r *Request) SetLabel(name, value string) { r.out.add(abi.OutLabel, name, value) }

// SetHeader sets a header of the reply; the manifest asks for the capability "headers".
func (r *Request) SetHeader(name, value string) { r.out.add(abi.OutHeader, name, value) }

// SetModel chooses the model; the manifest asks for the capability "model".
func (r *Request) SetModel(name string) { r.out.add(abi.OutModel, "", name) }

// Refuse stops the call. A status of 0 is 403; code and message may be empty.
func (r *Request) Refuse(status int, code, message string) {
	r.verdict = abi.Refuse
	r.out.refuse(status, code, message)
}

// Fail says that the plugin cannot judge the request; its failure rule decides.
func (r *Request) Fail(reason string) { r.err = reason }
