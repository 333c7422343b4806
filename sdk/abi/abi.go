// Package abi states the contract between the gateway and its Wasm plugins once, for both sides: names,
// bit layouts and records. It imports nothing, so that a guest pays nothing for it. ../README.md tells
// the same in prose.
package abi

// Names a guest exports. A hook is subscribed to by exporting it.
const (
	Marker     = "nexus_abi_1"        // () ; says which contract the guest speaks, never called
	Buffers    = "nexus_buffers"      // () → i32: address of the buffer table
	Configure  = "nexus_configure"    // (len i32) → i64, optional; once, before any hook
	OnRequest  = "nexus_on_request"   // (len i32) → i64
	OnText     = "nexus_on_text"      // (len i32, flags i32) → i64
	OnToolCall = "nexus_on_tool_call" // (len i32) → i64
	OnUsage    = "nexus_on_usage"     // (len i32) → i64
	OnEnd      = "nexus_on_end"       // (len i32)
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

// MaxPiece is the most text, its context included, that one on_text is asked about, in bytes, however large the in
// buffer is: an edit buffer that holds an edit for every few bytes of it is enough for every text.
const MaxPiece = 32 << 10

// Flags tell on_text what it is looking at. Bits not named here are reserved: a guest ignores them.
const (
	FlagReply      = 1 << 0 // the text is part of a reply; otherwise of a request
	FlagFinal      = 1 << 1 // nothing follows: the guest must hold nothing
	FlagMustDecide = 1 << 2 // the last answer held too much: hold no more than max_hold, or fail
	FlagLastUser   = 1 << 3 // the text belongs to the last message of role user

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
	Answer Verdict = 2 // on_request: answer the call with OutText, no backend is asked; capability "answer"
	Drop   Verdict = 3 // on_tool_call: take the call out and put OutText in its place
)

// A Result is what configure and every hook but on_end return:
//
//	bits  0-31  hold: bytes of the text's end to keep back (on_text), or bytes of records in the out buffer (all others)
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
	HeadSystems   = 40 // u32: messages of role system or developer
	HeadLength    = 44 // what this version writes
)

// HeadStream in HeadFlags: the answer is wanted as a stream.
const HeadStream = 1 << 0

// The head of on_tool_call, then records. A tool call of a reply is complete and nothing of it has been let go.
const (
	CallSize   = 0  // u32: bytes of the head
	CallFlags  = 4  // u32: HeadStream
	CallChoice = 8  // u32: the choice it belongs to
	CallIndex  = 12 // u32: which of the choice's calls it is
	CallLength = 16
)

// The head of on_usage, then records. Counts are of the whole call so far.
const (
	UsageSize       = 0  // u32: bytes of the head
	UsageFlags      = 4  // u32: UsageFinal…
	UsagePrompt     = 8  // u64: tokens
	UsageCompletion = 16 // u64: tokens
	UsageCached     = 24 // u64: tokens of the prompt that the backend had cached
	UsageReasoning  = 32 // u64: tokens of the completion that were thought
	UsageLength     = 40
)

// Bits of UsageFlags.
const (
	UsageFinal     = 1 << 0 // nothing will be added
	UsageEstimated = 1 << 1 // no backend counted: the gateway guessed
)

// The head of on_end, then records.
const (
	EndSize       = 0  // u32: bytes of the head
	EndFlags      = 4  // u32: HeadStream, EndComplete
	EndStatus     = 8  // u32: the HTTP status of the answer; 499 when the caller left before it
	EndPrompt     = 16 // u64: tokens, as are the next three
	EndCompletion = 24
	EndCached     = 32
	EndReasoning  = 40
	EndMillis     = 48 // u64: of the whole call
	EndFirst      = 56 // u64: milliseconds until the first byte of the answer; all ones: there was none
	EndLength     = 64
)

// EndComplete in EndFlags: the answer reached its proper end.
const EndComplete = 1 << 1

// A record is {id u16, name length u16, value length u32, name, value}. Unknown ids are skipped.
const (
	RecordID     = 0
	RecordName   = 2
	RecordValue  = 4
	RecordHeader = 8
)

// Records the host writes. Those without a name have only a value. 1 to 9 come with every hook but on_text;
// call_get reads them in any.
const (
	InID             = 1  // the request's id
	InRoute          = 2  // the endpoint: chat, completions, …
	InModel          = 3  // the model asked for
	InPrincipal      = 4  // who calls: the key's id
	InTenant         = 5  //
	InTeam           = 6  //
	InTier           = 7  //
	InPrincipalLabel = 8  // name and value
	InLabel          = 9  // name and value: what earlier plugins said
	InTool           = 10 // on_request: the name of one function offered
	InHeader         = 11 // on_request: name in lower case, and value: a header of the caller's request; capability "headers"
	InToolCallID     = 12 // on_tool_call
	InToolName       = 13 // on_tool_call: the function that is called
	InArguments      = 14 // on_tool_call: JSON text, as the model wrote it
	InSchema         = 15 // on_tool_call: the JSON Schema of the arguments as the request offered them; absent when it did not
	InBackend        = 16 // on_usage, on_end: the id of the backend that answered
	InError          = 17 // on_end: why the call ended as it did; absent when it ended well
)

// Records a guest writes: in on_request all but 7, 8 with the verdict Answer; in on_tool_call 7, and 8 with the
// verdict Drop; 4 to 6 and 13 with the verdict Refuse, in every hook.
const (
	OutLabel         = 1  // name and value: a label for policy and later plugins
	OutHeader        = 2  // name and value: a header of the reply; capability "headers"
	OutModel         = 3  // the model to use instead; capability "model"
	OutStatus        = 4  // refusal: three digits, 400-599; 403 when absent
	OutCode          = 5  // refusal: the machine-readable code
	OutMessage       = 6  // refusal: a sentence for the caller
	OutArguments     = 7  // the tool call's arguments instead: JSON text
	OutText          = 8  // the text to say instead
	OutPool          = 9  // the pool to ask; policy's targets stand above it; capability "pool"
	OutRequestHeader = 10 // name and value: a header for the backend, taken out when the value is empty; capability "headers"
	OutDropHeader    = 11 // name: a header to take out of the reply; capability "headers"
	OutSystem        = 12 // name SystemBefore…, and text: what the model is told first; capability "system"
	OutRetry         = 13 // refusal: in how many seconds to try again, decimal, 0 to MaxRetry
)

// MaxRetry is the longest time that a refusal may tell a caller to wait, in seconds.
const MaxRetry = 86400

// Names of OutSystem: where the text goes. A request without a system message gets one, before all others.
const (
	SystemBefore  = "before"  // in front of the first system message's text
	SystemAfter   = "after"   // behind it
	SystemReplace = "replace" // in its place
)

// Host functions, of the import module Module. ptr and len are i32 addresses and lengths in the guest's memory. A
// function that fills out returns the length of what it has, and writes as much of it as out_cap allows; -1 is none.
const (
	Log      = "log"        // (ptr, len)
	LabelGet = "label_get"  // (name_ptr, name_len, out_ptr, out_cap) → i32
	LabelSet = "label_set"  // (name_ptr, name_len, value_ptr, value_len)
	CallGet  = "call_get"   // (id, name_ptr, name_len, out_ptr, out_cap) → i32; id is one of InID to InLabel, InHeader
	ModelSet = "model_set"  // (ptr, len); requests only; capability "model"
	PoolSet  = "pool_set"   // (ptr, len); requests only; capability "pool"
	KVGet    = "kv_get"     // (key_ptr, key_len) → i64: the counter, 0 when there is none
	KVIncrIf = "kv_incr_if" // (key_ptr, key_len, amount i64, limit i64, ttl_ms i64) → i64: the new count, -1 when it would pass limit
	VaultPut = "vault_put"  // (value_ptr, value_len, token_ptr, token_len): token stands for value in this call
	Metric   = "metric"     // (name_ptr, name_len, amount f64): adds to a counter that the manifest names
	NowMS    = "now_ms"     // () → i64: Unix milliseconds
	Random   = "random"     // (ptr, len)
	HTTPCall = "http_call"  // (ptr, len, out_ptr, out_cap) → i32: records there and back; -1 not answered, -2 not allowed
)

// Records of http_call.
const (
	HTTPMethod = 1 // there: GET when absent
	HTTPURL    = 2 // there
	HTTPHeader = 3 // there and back: name and value
	HTTPBody   = 4 // there and back
	HTTPStatus = 5 // back: three digits
)
