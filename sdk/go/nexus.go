// Package nexus is what a Go plugin of the gateway is written with: it turns the ABI's numbers and
// buffers into a Text to look at and a Request to label.
//
// A plugin subscribes to a hook by exporting it, one line each, in its package main:
//
//	//go:wasmexport nexus_on_text
//	func onText(n, flags uint32) uint64 { return nexus.HandleText(n, flags, mask) }
//
//	func mask(t *nexus.Text) { … }
//
//	func main() {} // never runs: a plugin is a library
//
// and is built by `GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared`. Plugins keep no state between
// calls: any instance may be asked about any piece of any text, and may be thrown away after it.
package nexus

import "github.com/nexus-gateway/nexus/sdk/abi"

// The buffers of the ABI. A guest is called by one caller at a time, so there is one of each; untouched
// pages of them cost nothing. The in buffer takes the arguments of a large tool call; the edit buffer holds an edit
// for every 4 bytes of a text.
const (
	inCap   = 256 << 10
	editCap = abi.MaxPiece / 4 * abi.EditSize
	outCap  = 512 << 10
)

var (
	in    [inCap]byte
	edits [editCap]byte
	out   [outCap]byte
)

// A Direction says which way a text goes.
type Direction uint8

const (
	ToModel  Direction = iota // part of a request
	ToCaller                  // part of a reply
)

// A Role says who wrote a text.
type Role uint8

const (
	NoRole    Role = abi.NoRole
	System    Role = abi.System
	Developer Role = abi.Developer
	User      Role = abi.User
	Assistant Role = abi.Assistant
	Tool      Role = abi.Tool
)

// A Channel says which stream of text a piece belongs to.
type Channel uint8

const (
	Content       Channel = abi.Content
	Reasoning     Channel = abi.Reasoning
	Refused       Channel = abi.Refused
	ToolArguments Channel = abi.ToolArguments // JSON text
	Prompt        Channel = abi.Prompt
	Input         Channel = abi.Input
	Aside         Channel = abi.Aside // names, tools' descriptions, metadata
)

// HandleConfigure runs f on the plugin's configuration, a JSON object. An error refuses the plugin at load.
func HandleConfigure(n uint32, f func(config []byte) error) uint64 {
	if int(n) > len(in) {
		return failed("configuration too long")
	}
	if err := f(in[:n]); err != nil {
		return failed(err.Error())
	}
	return uint64(abi.Pack(0, abi.Pass, 0, 0))
}

// failed reports to the host that the guest cannot go on, and why.
func failed(reason string) uint64 {
	return uint64(abi.Pack(uint32(copy(out[:], reason)), abi.Pass, 1, 0))
}

// An Error is a reason, without the weight of package errors' relatives.
type Error string

func (e Error) Error() string { return string(e) }

func put16(b []byte, v uint16) { b[0], b[1] = byte(v), byte(v>>8) }

func put32(b []byte, v uint32) {
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
}

func get16(b []byte) uint16 { return uint16(b[0]) | uint16(b[1])<<8 }

func get32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// records writes the out buffer's records.
type records struct {
	used int
	full bool
}

func (r *records) add(id uint16, name, value string) {
	size := abi.RecordHeader + len(name) + len(value)
	if len(name) > 0xffff || r.used+size > len(out) {
		r.full = true
		return
	}
	b := out[r.used:]
	put16(b[abi.RecordID:], id)
	put16(b[abi.RecordName:], uint16(len(name)))
	put32(b[abi.RecordValue:], uint32(len(value)))
	copy(b[abi.RecordHeader:], name)
	copy(b[abi.RecordHeader+len(name):], value)
	r.used += size
}

// retry writes when a caller who is refused may try again.
func (r *records) retry(seconds int) {
	seconds = min(max(seconds, 0), abi.MaxRetry)
	var digits [5]byte
	at := len(digits) - 1
	for ; at > 0 && seconds > 9; at, seconds = at-1, seconds/10 {
		digits[at] = byte('0' + seconds%10)
	}
	digits[at] = byte('0' + seconds)
	r.add(abi.OutRetry, "", string(digits[at:]))
}

// refuse writes what a refusal tells the caller; zero values leave it to the host.
func (r *records) refuse(status int, code, message string) {
	if status >= 100 && status <= 999 {
		r.add(abi.OutStatus, "", string([]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)}))
	}
	if code != "" {
		r.add(abi.OutCode, "", code)
	}
	if message != "" {
		r.add(abi.OutMessage, "", message)
	}
}
