package conformance

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// A record is one of a question's or an answer's.
type record struct {
	id          uint16
	name, value string
}

// A question is what a hook but on_text is asked, before it is bytes. It is written here a second time, from the
// contract's page and not by the host's code.
type question struct {
	hook    string
	head    []byte
	records []record
}

func (q *question) bytes() []byte {
	b := slices.Clone(q.head)
	binary.LittleEndian.PutUint32(b, uint32(len(q.head)))
	for _, r := range q.records {
		b = appendRecord(b, r)
	}
	return b
}

func appendRecord(b []byte, r record) []byte {
	b = binary.LittleEndian.AppendUint16(b, r.id)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.name)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.value)))
	b = append(b, r.name...)
	return append(b, r.value...)
}

// recordsOf reads records; ok is false when they are cut off.
func recordsOf(b []byte) (all []record, ok bool) {
	for len(b) > 0 {
		if len(b) < abi.RecordHeader {
			return all, false
		}
		name := abi.RecordHeader + int(binary.LittleEndian.Uint16(b[abi.RecordName:]))
		end := name + int(binary.LittleEndian.Uint32(b[abi.RecordValue:]))
		if end > len(b) {
			return all, false
		}
		all = append(all, record{binary.LittleEndian.Uint16(b), string(b[abi.RecordHeader:name]), string(b[name:end])})
		b = b[end:]
	}
	return all, true
}

// known are the records that come with every hook.
var known = []record{
	{abi.InID, "", "call-1"}, {abi.InRoute, "", "chat"}, {abi.InModel, "", "some-model"}, {abi.InPrincipal, "", "key-1"},
	{abi.InTenant, "", "acme"}, {abi.InTeam, "", "search"}, {abi.InTier, "", "gold"},
	{abi.InPrincipalLabel, "grade", "a"}, {abi.InLabel, "lang", "en"},
}

func head(size int, fields map[int]uint64) []byte {
	b := make([]byte, size+8)
	for at, v := range fields {
		binary.LittleEndian.PutUint32(b[at:], uint32(v))
		if v > 0xffffffff {
			binary.LittleEndian.PutUint64(b[at:], v)
		}
	}
	return b[:size]
}

func with(more ...record) []record { return append(slices.Clone(known), more...) }

// ordinary is an everyday question for each hook but on_text.
func ordinary() []question {
	return []question{
		{"on_request", head(abi.HeadLength, map[int]uint64{abi.HeadFlags: abi.HeadStream, abi.HeadChoices: 1, abi.HeadTurns: 3, abi.HeadTools: 2,
			abi.HeadTexts: 3, abi.HeadBytes: 900, abi.HeadMaxTokens: 1<<64 - 1, abi.HeadSystems: 1}),
			with(record{abi.InTool, "", "search"}, record{abi.InTool, "", "mail"}, record{abi.InHeader, "x-ask", "1"})},
		{"on_tool_call", head(abi.CallLength, map[int]uint64{abi.CallFlags: abi.HeadStream, abi.CallIndex: 1}),
			with(record{abi.InToolCallID, "", "call_1"}, record{abi.InToolName, "", "search"}, record{abi.InArguments, "", `{"q":"secret","n":3}`},
				record{abi.InSchema, "", `{"type":"object","properties":{"q":{"type":"string"}}}`})},
		{"on_usage", head(abi.UsageLength, map[int]uint64{abi.UsageFlags: abi.UsageFinal, abi.UsagePrompt: 12, abi.UsageCompletion: 34, abi.UsageCached: 5, abi.UsageReasoning: 6}),
			with(record{abi.InBackend, "", "local-1"})},
		{"on_end", head(abi.EndLength, map[int]uint64{abi.EndFlags: abi.EndComplete | abi.HeadStream, abi.EndStatus: 200, abi.EndPrompt: 12, abi.EndCompletion: 34, abi.EndMillis: 56, abi.EndFirst: 7}),
			with(record{abi.InBackend, "", "local-1"})},
	}
}

// ask puts a question to the plugin.
func (q *question) ask(ctx context.Context, t *plugin.Trial) (plugin.RawAnswer, error) {
	return t.Ask(ctx, plugin.Question{Hook: q.hook, In: q.bytes(), Call: newCall(), Reply: q.hook != "on_request"})
}

// filled is q with a record of no known id, so long that the in buffer of so many bytes is full.
func (q question) filled(size int) question {
	rest := size - len(q.bytes()) - abi.RecordHeader
	if rest > 0 {
		q.records = append(slices.Clone(q.records), record{unknownID, "", string(make([]byte, rest))})
	}
	return q
}

// unknownID is that of a record that no gateway writes yet.
const unknownID = 0x7f01

// greased are q as later gateways may ask it: longer heads, flags and records that have no meaning yet.
func (q question) greased() map[string]question {
	odd := record{unknownID, "name", "value"}
	all := map[string]question{}
	for name, n := range map[string]int{"a head 4 bytes longer": 4, "a head 12 bytes longer": 12, "a head 500 bytes longer": 500} {
		long := q
		long.head = append(slices.Clone(q.head), slices.Repeat([]byte{0xa5}, n)...)
		all[name] = long
	}
	flags := q
	flags.head = slices.Clone(q.head)
	binary.LittleEndian.PutUint32(flags.head[4:], binary.LittleEndian.Uint32(q.head[4:])|0xfffffffc)
	all["unknown flags"] = flags
	before, after, between := q, q, q
	before.records = append([]record{odd}, q.records...)
	after.records = append(slices.Clone(q.records), odd)
	between.records = nil
	for _, r := range q.records {
		between.records = append(between.records, r, odd, record{0xffff, "", ""})
	}
	all["an unknown record first"], all["an unknown record last"], all["unknown records between"] = before, after, between
	return all
}
