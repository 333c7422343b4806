// Package abi states the contract between the gateway and its Wasm plugins once, for both sides: names,
// bit layouts and records. It imports nothing, so that a guest pays nothing for it. ../README.md tells
// the same in prose.
package abi

// Names a guest exports. A hook is subscribed to by exporting it.
const (
	Marker     = "nexus_abi_1"      // () ; says which contract the guest speaks, never called
	Buffers    = "nexus_buffers"    // () → i32: address of the buffer table
	Configure  = "nexus_configure"  // (len i32) → i64, optional; once, before any hook
	OnRequest  = "nexus_on_request" // (len i32) → i64
	OnText     = "nexus_on_text"    // (len i32, flags i32) → i64
	OnToolCall = "nexus_on_tool_call"
	OnUsage    = "nexus_on_usage"
	OnEnd      = "nexus_on_end"
)

// MarkerPrefix is what every version's Marker begins with.
const MarkerPrefix = "nexus_abi_"

// Version is the version this package states.
const Version = 1

// Module is the import module of the host functions.
const Module = "nexus"

// The buffer table is six little-endian u32: where the host writes what it passes in, where the guest
// leaves its edits, and where it leaves everything else it says. Capacities are in bytes. The host reads
// the table once after start and never again: the buffers stand still for the guest's life.
const (
	TableInPtr   = 0
	TableInCap   = 4
	TableEditPtr = 8
	TableEditCap = 12
	TableOutPtr  = 16
	TableOutCap  = 20
	TableSize    = 24
)

// MinIn is the smallest in buffer a host accepts; the context and the largest hold must fit with room.
const MinIn = 4096

// Flags tell on_text what it is looking at. Bits not named here are reserved: a guest ignores them.
const (
	FlagReply      = 1 << 0 // the text is part of a reply; otherwise of a request
	FlagFinal      = 1 << 1 // nothing follows: the guest must hold nothing
	FlagMustDecide = 1 << 2 // the last answer held too much: hold no more than max_hold, or fail

	RoleShift    = 4 // 4 bits: who wrote the text
	RoleMask     = 0xf
	ChannelShift = 8 // 8 bits: which stream of text it belongs to
	ChannelMask  = 0xff
	ContextShift = 16 // 16 bits: how many bytes of the text went before and are only to look back on
	ContextMask  = 0xffff
)

// Roles, as the role bits number them.
const (
	NoRole = iota
	System
	Developer
	User
	Assistant
	Tool
)

// Channels, as the channel bits number them.
const (
	Content       = iota // a message's or a choice's visible text
	Reasoning            // what the model thought
	Refused              // the model's refusal
	ToolArguments        // JSON text of a tool call's arguments
	Prompt               // a bare prompt or query
	Input                // an input to embed or rank
	Aside                // what stands beside the conversation in a request: a name, a tool's description, metadata
)

// MaxContext is the most context a manifest may ask for, in bytes.
const MaxContext = 512

// A Verdict is what a hook decided.
type Verdict uint8

const (
	Pass   Verdict = 0 // go on, with the edits
	Refuse Verdict = 1 // stop the call; the out buffer says why
)

// A Result is what configure, on_request and on_text return:
//
//	bits  0-31  hold: bytes of the text's end to keep back (on_text), or bytes of records in the out buffer
//	bits 32-39  verdict
//	bits 40-47  error: not 0 says the guest failed; its reason stands in the out buffer, hold bytes long
//	bits 48-63  number of edits in the edit buffer (on_text)
//
// With the verdict Refuse, hold is the length of the records in the out buffer, for every hook.
type Result uint64

// Pack puts a result together.
func Pack(hold uint32, v Verdict, failed uint8, edits uint16) Result {
	return Result(hold) | Result(v)<<32 | Result(failed)<<40 | Result(edits)<<48
}

func (r Result) Hold() uint32     { return uint32(r) }
func (r Result) Verdict() Verdict { return Verdict(r >> 32) }
func (r Result) Error() uint8     { return uint8(r >> 40) }
func (r Result) Edits() uint16    { return uint16(r >> 48) }

// An edit is five little-endian u32. Start and end are offsets into the text after its context; the
// replacement stands in the out buffer. Edits are in order and do not overlap, every offset stands on a
// UTF-8 boundary, every replacement is valid UTF-8.
const (
	EditStart  = 0
	EditEnd    = 4
	EditOffset = 8
	EditLength = 12 // or ReportOnly
	EditKind   = 16 // 0, or n: the n-th of the manifest's kinds
	EditSize   = 20
)

// ReportOnly as an edit's length reports its kind as found and leaves the text as it is.
const ReportOnly = 0xffffffff

// Request metadata, the input of on_request, is a head and then records. The head begins with its own
// length, so that a later version may make it longer; all numbers are little-endian.
const (
	HeadSize      = 0  // u32: bytes of the head, this one included
	HeadFlags     = 4  // u32: HeadStream…
	HeadChoices   = 8  // u32: choices asked for
	HeadTurns     = 12 // u32: messages
	HeadImages    = 16 // u32: image parts
	HeadTools     = 20 // u32: functions offered
	HeadTexts     = 24 // u32: texts in the body
	HeadBytes     = 28 // u32: bytes of the body
	HeadMaxTokens = 32 // i64: -1 when not given
	HeadLength    = 40 // what this version writes
)

// HeadStream in HeadFlags: the answer is wanted as a stream.
const HeadStream = 1 << 0

// A record is {id u16, name length u16, value length u32, name, value}. Unknown ids are skipped.
const (
	RecordID     = 0
	RecordName   = 2
	RecordValue  = 4
	RecordHeader = 8
)

// Records the host writes for on_request. Those without a name have only a value.
const (
	InID             = 1  // the request's id
	InRoute          = 2  // the endpoint: chat, completions, …
	InModel          = 3  // the model asked for
	InPrincipal      = 4  // who calls
	InTenant         = 5  //
	InTeam           = 6  //
	InTier           = 7  //
	InPrincipalLabel = 8  // name and value
	InLabel          = 9  // name and value: what earlier plugins said
	InTool           = 10 // the name of one function offered
)

// Records a guest writes.
const (
	OutLabel   = 1 // name and value: a label for policy and log
	OutHeader  = 2 // name and value: a header of the reply; capability "headers"
	OutModel   = 3 // the model to use instead; capability "model"
	OutStatus  = 4 // refusal: three digits, 400-599; 403 when absent
	OutCode    = 5 // refusal: the machine-readable code
	OutMessage = 6 // refusal: a sentence for the caller
)
