//go:build wasip1

package nexus

import (
	"unsafe"

	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A module imports only what its code uses: the linker drops the others.

//go:wasmimport nexus log
func hostLog(ptr, n uint32)

//go:wasmimport nexus label_get
func hostLabelGet(name, nameLen, out, outCap uint32) int32

//go:wasmimport nexus label_set
func hostLabelSet(name, nameLen, value, valueLen uint32)

//go:wasmimport nexus call_get
func hostCallGet(id, name, nameLen, out, outCap uint32) int32

//go:wasmimport nexus model_set
func hostModelSet(ptr, n uint32)

//go:wasmimport nexus pool_set
func hostPoolSet(ptr, n uint32)

//go:wasmimport nexus kv_get
func hostKVGet(key, keyLen uint32) int64

//go:wasmimport nexus kv_incr_if
func hostKVIncrIf(key, keyLen uint32, amount, limit, ttlMillis int64) int64

//go:wasmimport nexus vault_put
func hostVaultPut(value, valueLen, token, tokenLen uint32)

//go:wasmimport nexus metric
func hostMetric(name, nameLen uint32, amount float64)

//go:wasmimport nexus now_ms
func hostNowMS() int64

//go:wasmimport nexus random
func hostRandom(ptr, n uint32)

//go:wasmimport nexus http_call
func hostHTTPCall(ptr, n, out, outCap uint32) int32

// at is where a string stands and how long it is.
func at(s string) (ptr, n uint32) {
	return uint32(uintptr(unsafe.Pointer(unsafe.StringData(s)))), uint32(len(s))
}

// answers is where host functions write: the out buffer is the handler's.
var answers [64 << 10]byte

// Log writes one bounded line to the gateway's log; capability "log". It must never hold a caller's text.
func Log(line string) { hostLog(at(line)) }

// Label is what this or an earlier plugin said of the call under name; capability "label_get".
func Label(name string) (value string, ok bool) {
	p, n := at(name)
	return answer(hostLabelGet(p, n, address(&answers[0]), uint32(len(answers))))
}

// SetLabel tells policy and log what the plugin found out; capability "label_set".
func SetLabel(name, value string) {
	p, n := at(name)
	v, m := at(value)
	hostLabelSet(p, n, v, m)
}

// Known is what is known of the call; name is empty but for labels and headers. Capability "call_get".
func Known(f Fact, name string) (value string, ok bool) {
	p, n := at(name)
	return answer(hostCallGet(uint32(f), p, n, address(&answers[0]), uint32(len(answers))))
}

func answer(n int32) (string, bool) {
	if n < 0 {
		return "", false
	}
	return string(answers[:min(int(n), len(answers))]), true
}

// SetModel chooses the request's model; capability "model".
func SetModel(name string) { hostModelSet(at(name)) }

// SetPool chooses the pool where policy names no target; capability "pool".
func SetPool(name string) { hostPoolSet(at(name)) }

// Count is a counter's value, 0 when there is none; capability "kv_get". Counters are the plugin's own, shared by
// all replicas of the gateway.
func Count(key string) int64 { return hostKVGet(at(key)) }

// CountIf adds amount to a counter unless that would pass limit, and returns the new count; otherwise ok is false
// and nothing is added. A counter lives for ttlMillis from when it was first added to. Capability "kv_incr_if".
func CountIf(key string, amount, limit, ttlMillis int64) (count int64, ok bool) {
	p, n := at(key)
	count = hostKVIncrIf(p, n, amount, limit, ttlMillis)
	return count, count >= 0
}

// VaultPut notes that token stands for value in this call: where the decision restores, the caller reads value
// where the answer says token. Capability "vault_put".
func VaultPut(value, token string) {
	p, n := at(value)
	v, m := at(token)
	hostVaultPut(p, n, v, m)
}

// AddMetric adds to a counter that the manifest names under metrics; capability "metric".
func AddMetric(name string, amount float64) {
	p, n := at(name)
	hostMetric(p, n, amount)
}

// NowMillis is the time in Unix milliseconds; capability "now_ms".
func NowMillis() int64 { return hostNowMS() }

// Random fills b with random bytes; capability "random".
func Random(b []byte) {
	if len(b) > 0 {
		hostRandom(address(&b[0]), uint32(len(b)))
	}
}

// HTTP asks another server, one that the configuration allows, on the time of the call; capability "http_call".
// It writes over what a handler has said before, so ask first.
func HTTP(r HTTPRequest) (HTTPResponse, error) {
	n, ok := r.write()
	if !ok {
		return HTTPResponse{}, ErrNoAnswer
	}
	switch got := hostHTTPCall(address(&out[0]), uint32(n), address(&answers[0]), uint32(len(answers))); {
	case got == -2:
		return HTTPResponse{}, ErrNotAllowed
	case got < 0 || int(got) > len(answers):
		return HTTPResponse{}, ErrNoAnswer
	default:
		return readHTTPResponse(answers[:got]), nil
	}
}

// write puts the request into b as records and returns their length.
func (r *HTTPRequest) write() (int, bool) {
	var w records
	if r.Method != "" {
		w.add(abi.HTTPMethod, "", r.Method)
	}
	w.add(abi.HTTPURL, "", r.URL)
	for _, h := range r.Header {
		w.add(abi.HTTPHeader, h[0], h[1])
	}
	if r.Body != "" {
		w.add(abi.HTTPBody, "", r.Body)
	}
	return w.used, !w.full
}

func readHTTPResponse(b []byte) (r HTTPResponse) {
	eachRecord(b, func(id uint16, name, value []byte) bool {
		switch id {
		case abi.HTTPStatus:
			for _, c := range value {
				r.Status = r.Status*10 + int(c-'0')
			}
		case abi.HTTPHeader:
			r.Header = append(r.Header, [2]string{string(name), string(value)})
		case abi.HTTPBody:
			r.Body = string(value)
		}
		return true
	})
	return r
}
