package nexus

import "github.com/nexus-gateway/nexus/sdk/abi"

// facts are a head of numbers and the records behind it: what the host tells of a call. All it gives is valid
// until the handler returns.
type facts struct {
	head []byte
	rest []byte
}

// factsOf reads the n bytes that the host has left in the in buffer; ok is false when they are no head.
func factsOf(n uint32) (f facts, ok bool) {
	if int(n) > len(in) || n < 4 || get32(in[:]) < 4 || get32(in[:]) > n {
		return facts{}, false
	}
	size := get32(in[:])
	return facts{head: in[:size], rest: in[size:n]}, true
}

// number reads a field of the head; one that a host with a shorter head does not write is 0.
func (f *facts) number(at int) int {
	if at+4 > len(f.head) {
		return 0
	}
	return int(get32(f.head[at:]))
}

func (f *facts) long(at int, absent int64) int64 {
	if at+8 > len(f.head) {
		return absent
	}
	b := f.head[at:]
	return int64(uint64(get32(b)) | uint64(get32(b[4:]))<<32)
}

func (f *facts) ID() []byte        { return f.value(abi.InID, "") }
func (f *facts) Route() []byte     { return f.value(abi.InRoute, "") } // chat, completions, …
func (f *facts) Model() []byte     { return f.value(abi.InModel, "") }
func (f *facts) Principal() []byte { return f.value(abi.InPrincipal, "") } // the key's id
func (f *facts) Tenant() []byte    { return f.value(abi.InTenant, "") }
func (f *facts) Team() []byte      { return f.value(abi.InTeam, "") }
func (f *facts) Tier() []byte      { return f.value(abi.InTier, "") }

// Label is what an earlier plugin said under name; nil: nothing.
func (f *facts) Label(name string) []byte { return f.value(abi.InLabel, name) }

// PrincipalLabel is the caller's own label of that name; nil: none.
func (f *facts) PrincipalLabel(name string) []byte { return f.value(abi.InPrincipalLabel, name) }

func (f *facts) value(id uint16, name string) (found []byte) {
	eachRecord(f.rest, func(i uint16, n, v []byte) bool {
		if i == id && string(n) == name {
			found = v
		}
		return found == nil
	})
	return found
}

// eachRecord calls f for every whole record of b until it returns false.
func eachRecord(b []byte, f func(id uint16, name, value []byte) bool) {
	for len(b) >= abi.RecordHeader {
		name := abi.RecordHeader + uint64(get16(b[abi.RecordName:]))
		end := name + uint64(get32(b[abi.RecordValue:]))
		if end > uint64(len(b)) || !f(get16(b), b[abi.RecordHeader:name], b[name:end]) {
			return
		}
		b = b[end:]
	}
}

// verdict gathers what a handler decides, for every hook but on_text.
type verdict struct {
	out     records
	verdict abi.Verdict
	err     string
}

// Refuse stops the call. A status of 0 is 403; code and message may be empty.
func (v *verdict) Refuse(status int, code, message string) {
	v.verdict = abi.Refuse
	v.out.refuse(status, code, message)
}

// RetryAfter says, once Refuse was called, in how many seconds the caller may try again: at most a day.
func (v *verdict) RetryAfter(seconds int) { v.out.retry(seconds) }

// Fail says that the plugin cannot judge; its failure rule decides.
func (v *verdict) Fail(reason string) { v.err = reason }

func (v *verdict) result() uint64 {
	if v.out.full {
		v.err = "more said than the out buffer holds"
	}
	if v.err != "" {
		return failed(v.err)
	}
	return uint64(abi.Pack(uint32(v.out.used), v.verdict, 0, 0))
}
