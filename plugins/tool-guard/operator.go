package main

import (
	"github.com/nexus-gateway/nexus/plugins/callers"
	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

// sound says what is wrong with a schema that an operator has written. It is stricter than the one of a request: what would
// not be judged, or is misspelt, is refused, so that no line of it is without effect.
func (t *tree) sound(root, s int32) error {
	n := &t.nodes[s]
	if n.kind&isBool != 0 {
		return nil
	}
	if n.kind != isObject {
		return nexus.Error("a schema must be an object, true or false")
	}
	for m := s + 1; m < n.next; m = t.nodes[m].next {
		if err := t.soundKeyword(root, m); err != nil {
			return err
		}
	}
	if t.goesRound(root, s, 0) {
		return nexus.Error("$ref leads back to where it stands without going into a value")
	}
	return nil
}

func (t *tree) soundKeyword(root, m int32) error {
	n, name := &t.nodes[m], string(t.name(m))
	switch name {
	case "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema":
		return nil
	case "items", "additionalProperties", "not":
		return t.sound(root, m)
	case "prefixItems", "anyOf", "oneOf", "allOf":
		if n.kind != isArray || n.count == 0 {
			return nexus.Error(name + " must be a list of schemas")
		}
		return t.soundAll(root, m)
	case "properties", "$defs", "definitions":
		if n.kind != isObject {
			return nexus.Error(name + " must name schemas")
		}
		return t.soundAll(root, m)
	case "pattern", "format":
		return nexus.Error(name + " is not judged here: take it out, or say what you can by enum, const, minLength and maxLength")
	case "nullable":
		return nexus.Error(`nullable is not JSON Schema: write type: [string, "null"]`)
	}
	return t.soundValue(root, m, name)
}

func (t *tree) soundAll(root, m int32) error {
	for x := m + 1; x < t.nodes[m].next; x = t.nodes[x].next {
		if err := t.sound(root, x); err != nil {
			return err
		}
	}
	return nil
}

// soundValue looks at the keywords that hold no schemas.
func (t *tree) soundValue(root, m int32, name string) error {
	n := &t.nodes[m]
	ok, want := false, ""
	switch name {
	case "type":
		ok, want = t.soundType(m), "object, array, string, number, integer, boolean, null or a list of these"
	case "required":
		ok, want = n.kind == isArray && t.allStrings(m), "a list of names"
	case "enum":
		ok, want = n.kind == isArray && n.count > 0, "a list of values"
	case "const":
		ok = true
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		ok, want = n.kind == isNumber, "a number"
	case "multipleOf":
		ok, want = t.soundDivisor(m), "a number above 0 of at most 17 digits"
	case "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties":
		ok, want = t.soundCount(m), "a whole number, 0 or more"
	case "uniqueItems":
		ok, want = n.kind&isBool != 0, "true or false"
	case "$ref":
		_, ok = t.resolve(root, m)
		want = "# or a path within the schema, such as #/$defs/name, that leads to something"
	default:
		return nexus.Error(quoted(name) + " is not a keyword that is judged here")
	}
	if !ok {
		return nexus.Error(name + " must be " + want)
	}
	return nil
}

func quoted(name string) string {
	return `"` + string(callers.AppendPlain(nil, []byte(name), 64)) + `"`
}

func (t *tree) soundType(m int32) bool {
	if t.nodes[m].kind == isString {
		return isType(string(t.string(m)))
	}
	ok := t.nodes[m].kind == isArray && t.nodes[m].count > 0 && t.allStrings(m)
	for x := m + 1; ok && x < t.nodes[m].next; x++ {
		ok = isType(string(t.string(x)))
	}
	return ok
}

func isType(name string) bool {
	switch name {
	case "object", "array", "string", "number", "integer", "boolean", "null":
		return true
	}
	return false
}

func (t *tree) allStrings(m int32) bool {
	for x := m + 1; x < t.nodes[m].next; x++ {
		if t.nodes[x].kind != isString {
			return false
		}
	}
	return true
}

func (t *tree) soundDivisor(m int32) bool {
	n := &t.nodes[m]
	if n.kind != isNumber {
		return false
	}
	_, ok := decimal{}.multipleOf(decimalOf(t.text[n.start:n.end]))
	return ok
}

func (t *tree) soundCount(m int32) bool {
	n := &t.nodes[m]
	if n.kind != isNumber {
		return false
	}
	_, ok := decimalOf(t.text[n.start:n.end]).count()
	return ok
}

// goesRound reports whether a schema is applied to the same value again without end.
func (t *tree) goesRound(root, s int32, depth int) bool {
	if depth > maxDepth {
		return true
	}
	if t.nodes[s].kind != isObject {
		return false
	}
	for m := s + 1; m < t.nodes[s].next; m = t.nodes[m].next {
		if t.wordGoesRound(root, m, depth+1) {
			return true
		}
	}
	return false
}

func (t *tree) wordGoesRound(root, m int32, depth int) bool {
	switch string(t.name(m)) {
	case "$ref":
		target, ok := t.resolve(root, m)
		return ok && t.goesRound(root, target, depth)
	case "not":
		return t.goesRound(root, m, depth)
	case "anyOf", "oneOf", "allOf":
		for x := m + 1; x < t.nodes[m].next; x = t.nodes[x].next {
			if t.goesRound(root, x, depth) {
				return true
			}
		}
	}
	return false
}
