package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/setting"
	"github.com/nexus-gateway/nexus/policies"
)

// A node is one place of a JSON Schema: what may stand there, and what may stand below.
type node struct {
	path        string // as it is shown: input.backends[_].kv_used
	Description string
	Ref         string `json:"$ref"`
	Type        string
	Enum        []string
	Required    []string
	Min         *float64 `json:"minimum"`
	Max         *float64 `json:"maximum"`
	OneOf       []*node
	Props       map[string]*node `json:"properties"`
	Definitions map[string]*node
	Rest        *rest `json:"additionalProperties"` // of an object
	Items       *node // of an array
}

// rest is what a schema says of members that it does not name; a nil node says that there are none.
type rest struct{ node *node }

func (r *rest) UnmarshalJSON(b []byte) error {
	if string(b) == "false" {
		return nil
	}
	r.node = new(node)
	return json.Unmarshal(b, r.node)
}

// The schemas as the checks walk them: OPA's own type checker knows nothing of the members of maps, such as
// labels and backends, nothing of enumerations, and nothing of what a decision is.
var (
	inputRoot    = sync.OnceValue(func() *node { return schema("input", policies.InputSchema, nil) })
	decisionRoot = sync.OnceValue(func() *node { return schema("", policies.DecisionSchema, nil) })
	claimsRoot   = sync.OnceValue(func() *node { return schema("", policies.ClaimsSchema, decisionRoot()) })
)

// schema reads a schema that lies in the binary and refers to itself or to other. It panics where it is not one,
// which a test excludes.
func schema(path string, text []byte, other *node) *node {
	root := new(node)
	if err := json.Unmarshal(text, root); err != nil {
		panic("policies: a schema is broken: " + err.Error())
	}
	root.settle(path, documents{root, other})
	return root
}

// settle puts what references name in their place and names every place below path.
func (n *node) settle(path string, from documents) {
	if n.Ref != "" {
		*n = *from.follow(n.Ref)
	}
	n.path = path
	n.Props = maps.Clone(n.Props)
	for name, below := range n.Props {
		n.Props[name] = below.placed(strings.TrimPrefix(path+"."+name, "."), from)
	}
	n.OneOf = slices.Clone(n.OneOf)
	for i, one := range n.OneOf {
		n.OneOf[i] = one.placed(path, from)
	}
	switch {
	case n.Items != nil:
		n.Items = n.Items.placed(path+"[_]", from)
	case n.Rest != nil && n.Rest.node != nil:
		n.Rest = &rest{n.Rest.node.placed(path+"[_]", from)}
	}
}

// placed is a copy of n at path: one definition may stand in several places.
func (n *node) placed(path string, from documents) *node {
	c := *n
	c.settle(path, from)
	return &c
}

// documents are the schema that is read and the one that it refers to by a file's name.
type documents struct{ root, other *node }

// follow finds what a reference names: "#/definitions/x" or "decision.schema.json#/properties/x".
func (d documents) follow(ref string) *node {
	file, path, _ := strings.Cut(ref, "#/")
	n := d.root
	if file != "" {
		n = d.other
	}
	parts := strings.Split(path, "/")
	for i := 0; i < len(parts); i++ {
		switch parts[i] {
		case "definitions":
			i++
			n = n.Definitions[parts[i]]
		case "properties":
			i++
			n = n.Props[parts[i]]
		case "items":
			n = n.Items
		}
	}
	return n
}

// any is what an element of an array, or a member whose name only the call tells, is; nil: not known.
func (n *node) any() *node {
	switch {
	case n.Items != nil:
		return n.Items
	case n.Rest != nil:
		return n.Rest.node
	}
	return nil
}

// step is the place of one part of a reference below n. ok is false where the schema has no such place; a nil
// node with ok says that it is not known.
func (n *node) step(part ast.Value) (below *node, ok bool) {
	name, constant := part.(ast.String)
	switch {
	case !constant:
		return n.any(), true
	case n.Props[string(name)] != nil:
		return n.Props[string(name)], true
	case n.Type == "array":
		return nil, false
	}
	return n.any(), n.any() != nil
}

// nearest is the member of n that is meant by name; empty when none resembles it.
func (n *node) nearest(name string) string {
	return setting.Nearest(name, slices.Sorted(maps.Keys(n.Props)))
}

// membersOf is the place of the decision's schema where path, such as limits[2], lies.
func membersOf(path string) *node {
	n := decisionRoot()
	path, _, element := strings.Cut(path, "[")
	if path != "" {
		n = n.Props[path]
	}
	if element {
		n = n.Items
	}
	if len(n.OneOf) > 0 {
		n = n.OneOf[len(n.OneOf)-1] // of a target's two forms, the one that has members
	}
	return n
}

// kind is the kind of n's values, in the words of JSON; empty where there may be several.
func (n *node) kind() string {
	if n.Type == "integer" {
		return "number"
	}
	return n.Type
}

// unfit says why n never has value, a scalar written in the policy; empty when it may.
func (n *node) unfit(value ast.Value) string {
	kind := ""
	switch v := value.(type) {
	case ast.String:
		kind = "string"
		if n.Type == kind && len(n.Enum) > 0 && !slices.Contains(n.Enum, string(v)) {
			return n.unlisted(string(v))
		}
	case ast.Number:
		kind = "number"
		if x, err := strconv.ParseFloat(string(v), 64); n.Min != nil && (err != nil || x < *n.Min) || n.Max != nil && (err != nil || x > *n.Max) {
			return fmt.Sprintf("is never %v: it is %s", value, n.bounds())
		}
	case ast.Boolean:
		kind = "boolean"
	}
	is := n.kind()
	if kind == "" || is == "" || is == kind {
		return ""
	}
	text := fmt.Sprintf("is %s and never %v, %s", withArticle(is), value, withArticle(kind))
	if is == "string" {
		text += fmt.Sprintf(`: did you mean "%v"?`, value)
	}
	return text
}

func (n *node) unlisted(value string) string {
	text := "is never " + quote(value)
	if near := setting.Nearest(value, n.Enum); near != "" {
		return text + ": did you mean " + quote(near) + "?"
	}
	return text + ": it is one of " + strings.Join(n.Enum, ", ")
}

func (n *node) bounds() string {
	switch {
	case n.Max == nil:
		return fmt.Sprintf("%g or more", *n.Min)
	case n.Min == nil:
		return fmt.Sprintf("at most %g", *n.Max)
	}
	return fmt.Sprintf("%g to %g", *n.Min, *n.Max)
}

func withArticle(kind string) string {
	if kind == "array" || kind == "object" {
		return "an " + kind
	}
	return "a " + kind
}
