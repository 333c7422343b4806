package plugin

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// appendMetadata appends what on_request is told of a call.
func appendMetadata(dst []byte, c *pipeline.Call) []byte {
	r := c.Request
	le := binary.LittleEndian
	var flags uint32
	if r.Stream {
		flags |= abi.HeadStream
	}
	dst = le.AppendUint32(dst, abi.HeadLength)
	for _, n := range [...]int{int(flags), int(r.N), r.Turns, r.Images, len(r.Tools), len(r.Texts), len(r.Body)} {
		dst = le.AppendUint32(dst, uint32(min(max(n, 0), math.MaxUint32)))
	}
	dst = le.AppendUint64(dst, uint64(r.MaxTokens))
	dst = le.AppendUint32(dst, systems(r))
	dst = appendFacts(dst, c)
	for _, name := range r.Tools {
		dst = appendRecord(dst, abi.InTool, "", name)
	}
	return dst
}

// appendFacts appends what every hook but on_text is told of a call.
func appendFacts(dst []byte, c *pipeline.Call) []byte {
	dst = appendRecord(dst, abi.InID, "", c.ID)
	dst = appendRecord(dst, abi.InRoute, "", string(c.Route))
	dst = appendRecord(dst, abi.InModel, "", c.Request.Model)
	dst = appendPrincipal(dst, c.Principal)
	return appendLabels(dst, abi.InLabel, c.Labels)
}

// systems counts the messages of role system or developer that carry text.
func systems(r *llm.Request) (n uint32) {
	last := -1
	for _, t := range r.Texts {
		if (t.Role == llm.System || t.Role == llm.Developer) && t.Message != last {
			n, last = n+1, t.Message
		}
	}
	return n
}

func appendPrincipal(dst []byte, p *pipeline.Principal) []byte {
	if p == nil {
		return dst
	}
	dst = appendRecord(dst, abi.InPrincipal, "", p.ID)
	dst = appendRecord(dst, abi.InTenant, "", p.Tenant)
	dst = appendRecord(dst, abi.InTeam, "", p.Team)
	dst = appendRecord(dst, abi.InTier, "", p.Tier)
	return appendLabels(dst, abi.InPrincipalLabel, p.Labels)
}

// appendLabels writes labels in order, so that the same call always reads the same.
func appendLabels(dst []byte, id uint16, labels map[string]string) []byte {
	if len(labels) == 0 {
		return dst
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		dst = appendRecord(dst, id, name, labels[name])
	}
	return dst
}

// appendRecord writes one record; a name or value beyond what a record can say is cut.
func appendRecord(dst []byte, id uint16, name, value string) []byte {
	name = name[:min(len(name), math.MaxUint16)]
	dst = binary.LittleEndian.AppendUint16(dst, id)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(name)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(value)))
	dst = append(dst, name...)
	return append(dst, value...)
}
