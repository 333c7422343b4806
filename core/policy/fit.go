package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/setting"
)

// fit notes where v, which YAML or JSON gave, is not as n has it: unknown members, wrong kinds, words that are none of an
// enumeration. What is absent is no fault, and bounds are left to the check of a decision.
func (n *node) fit(p setting.Problems, v any) {
	if len(n.OneOf) > 0 {
		n.formOf(v).fit(p, v)
		return
	}
	if !isKind(n.Type, v) {
		p.Addf("", "is %s, not %s%s", written(v), articled(n.Type), n.advice(v))
		return
	}
	switch v := v.(type) {
	case string:
		if len(n.Enum) > 0 && !slices.Contains(n.Enum, v) {
			p.Addf("", "%s", n.unlisted(v))
		}
	case map[string]any:
		n.fitMembers(p, v)
	case []any:
		for i, one := range v {
			if n.Items != nil {
				n.Items.fit(p.In(fmt.Sprintf("[%d]", i)), one)
			}
		}
	}
}

func (n *node) fitMembers(p setting.Problems, members map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if below := n.member(name); below != nil {
			below.fit(p.In(name), members[name])
			continue
		}
		text := "is not in the schema"
		if near := n.nearest(name); near != "" {
			text += ": did you mean " + quote(near) + "?"
		} else {
			text += "; known here: " + strings.Join(n.names(), ", ")
		}
		p.Addf(name, "%s", text)
	}
}

// formOf is the first of n's forms that is of v's kind; the last one where none is.
func (n *node) formOf(v any) *node {
	for _, one := range n.OneOf {
		if isKind(one.Type, v) {
			return one
		}
	}
	return n.OneOf[len(n.OneOf)-1]
}

// names are the members that n names.
func (n *node) names() []string { return slices.Sorted(maps.Keys(n.Props)) }

// advice says how to write v where a string is wanted.
func (n *node) advice(v any) string {
	if _, isNumber := numeric(v); n.Type == "string" && (isNumber || isKind("boolean", v)) {
		return fmt.Sprintf(`; write "%v"`, v)
	}
	return ""
}

func isKind(kind string, v any) (ok bool) {
	switch kind {
	case "object":
		_, ok = v.(map[string]any)
	case "array":
		_, ok = v.([]any)
	case "string":
		_, ok = v.(string)
	case "boolean":
		_, ok = v.(bool)
	case "integer":
		x, number := numeric(v)
		ok = number && x == math.Trunc(x)
	case "number":
		_, ok = numeric(v)
	default:
		ok = true
	}
	return ok
}

func numeric(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case json.Number:
		x, err := v.Float64()
		return x, err == nil
	}
	return 0, false
}

func articled(kind string) string {
	if kind == "integer" {
		return "an integer"
	}
	return withArticle(kind)
}

// written is v as JSON writes it, shortened.
func written(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(b) > maxWritten {
		return cut(string(b), maxWritten) + "…"
	}
	return string(b)
}

const maxWritten = 200 // bytes of a value in a message
