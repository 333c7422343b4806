package plugin

import (
	"bytes"

	"github.com/nexus-gateway/nexus/core/llm"
)

// tokens are the members of a reply that say its text again, token by token. They go from every event, and
// from a body whose text was changed: they would tell what was taken out.
var tokens = members{"logprobs", "token_ids"}

// once are the members of a choice that are said once, and must not be said again when what is held
// leaves in the likeness of an earlier event.
var once = members{"logprobs", "token_ids", "role", "name", "id", "finish_reason", "stop_reason", "matched_stop"}

// members are names of JSON members.
type members []string

func (m members) has(name []byte) bool {
	for _, s := range m {
		if string(name) == s {
			return true
		}
	}
	return false
}

// hasTokens reports whether data may hold tokens that are not null, quickly.
func hasTokens(data []byte) bool {
	for _, name := range tokens {
		for rest := data; ; {
			i := bytes.Index(rest, []byte(name))
			if i < 0 {
				break
			}
			rest = rest[i+len(name):]
			if value := bytes.TrimLeft(rest, "\": \t\r\n"); len(value) > 0 && value[0] != 'n' {
				return true
			}
		}
	}
	return false
}

// blank empties every member named in m that is not null: a list becomes an empty one, all else null.
// Members of the payload itself stay, but for tokens: its id is who it is. data is valid JSON.
func blank(p *llm.Patch, data []byte, m members) {
	depth := 0
	for i := 0; i < len(data); {
		switch c := data[i]; {
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		case c == '"':
			end := stringEnd(data, i)
			value := colon(data, end)
			if value < 0 || !m.has(data[i+1:end-1]) || depth == 1 && !tokens.has(data[i+1:end-1]) {
				i = end
				continue
			}
			i = valueEnd(data, value)
			empty(p, data, llm.Span{Start: value, End: i})
			continue
		}
		i++
	}
}

func empty(p *llm.Patch, data []byte, at llm.Span) {
	switch data[at.Start] {
	case 'n':
	case '[':
		p.Replace(at, []byte("[]"))
	default:
		p.Replace(at, []byte("null"))
	}
}

// stringEnd returns the end of the string that starts at i.
func stringEnd(data []byte, i int) int {
	for i++; i < len(data) && data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(data))
}

// colon returns where the value of the member whose name ends at i begins, -1 if what ends there is no name.
func colon(data []byte, i int) int {
	i = space(data, i)
	if i >= len(data) || data[i] != ':' {
		return -1
	}
	if i = space(data, i+1); i >= len(data) {
		return -1
	}
	return i
}

func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r') {
		i++
	}
	return i
}

// valueEnd returns the end of the value that starts at i.
func valueEnd(data []byte, i int) int {
	for depth := 0; i < len(data); {
		switch data[i] {
		case '"':
			i = stringEnd(data, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
			i++
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
			i++
			continue
		default:
			i++
			continue
		}
		if depth == 0 {
			return i
		}
	}
	return i
}
