package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

const dialect = "https://json-schema.org/draft/2020-12/schema"

// variable is how a value from the environment is written; every single value may be one.
const variable = `\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}`

// Schema returns the JSON Schema of the configuration struct v or *v, by which editors complete and
// check a file. It is the same, byte for byte, for the same struct.
func Schema(v any) ([]byte, error) {
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	root, err := sectionSchema(t)
	if err != nil {
		return nil, fmt.Errorf("config: schema of %s: %w", t, err)
	}
	root["$schema"] = dialect
	root["title"] = "Nexus configuration"
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("config: schema of %s: %w", t, err)
	}
	return b.Bytes(), nil
}

// schema is one node; encoding/json sorts its keys.
type schema map[string]any

func sectionSchema(t reflect.Type) (schema, error) {
	properties := schema{}
	for _, f := range fields(t) {
		p, err := f.schema()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		properties[f.name] = p
	}
	return schema{"type": "object", "properties": properties, "additionalProperties": false}, nil
}

func (f field) schema() (schema, error) {
	s, err := typeSchema(f.typ, f.enum)
	if err != nil {
		return nil, err
	}
	if f.doc != "" {
		s["description"] = f.doc
	}
	if !f.hasDefault {
		return s, nil
	}
	t := f.typ
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	v := reflect.New(t).Elem()
	if err := f.parseDefault(v); err != nil {
		return nil, err
	}
	if d, ok := f.defaultJSON(v); ok {
		s["default"] = d
	}
	return s, nil
}

// defaultJSON is the default as the file would hold it.
func (f field) defaultJSON(v reflect.Value) (any, bool) {
	switch {
	case v.Kind() == reflect.Slice:
		return f.defaultItems(), len(f.defaultItems()) > 0
	case v.Kind() == reflect.Map, f.fallback == "":
		return nil, false
	case isTextual(v.Type()):
		return f.fallback, true
	}
	return v.Interface(), true
}

func typeSchema(t reflect.Type, enum []string) (schema, error) {
	switch {
	case t.Kind() == reflect.Pointer:
		return typeSchema(t.Elem(), enum)
	case isScalar(t):
		return scalarSchema(t, enum), nil
	case t.Kind() == reflect.Interface:
		return schema{}, nil
	case t.Kind() == reflect.Struct:
		return sectionSchema(t)
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
		items, err := typeSchema(t.Elem(), enum)
		return schema{"type": "object", "additionalProperties": items, "propertyNames": schema{"minLength": 1}}, err
	case t.Kind() == reflect.Slice:
		items, err := typeSchema(t.Elem(), enum)
		return schema{"type": "array", "items": items}, err
	}
	return nil, fmt.Errorf("no setting can be of type %s", t)
}

func scalarSchema(t reflect.Type, enum []string) schema {
	switch {
	case len(enum) > 0:
		return schema{"anyOf": []schema{{"enum": enumJSON(t, enum)}, {"type": "string", "pattern": variable}}}
	case t == durationType:
		return schema{"type": []string{"string", "integer"}, "maximum": 0, "minimum": 0,
			"pattern": `^\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$|^[+-]?0$|` + variable}
	case t == sizeType:
		return schema{"type": []string{"string", "integer"}, "minimum": 0,
			"pattern": `^\s*[+]?[0-9]+\s*(GiB|MiB|KiB|GB|MB|KB|B)?\s*$|` + variable}
	case isTextual(t): // any single value is text as it is written
		return schema{"type": []string{"string", "number", "boolean"}}
	}
	plain := schema{"pattern": variable}
	switch t.Kind() {
	case reflect.Bool:
		plain["type"] = []string{"boolean", "string"}
	case reflect.Float32, reflect.Float64:
		plain["type"] = []string{"number", "string"}
	default:
		plain["type"] = []string{"integer", "string"}
		plain["minimum"], plain["maximum"] = bounds(t)
	}
	return plain
}

// bounds returns the least and the greatest value of an integer type.
func bounds(t reflect.Type) (least, most json.Number) {
	bits := t.Bits()
	if strings.HasPrefix(t.Kind().String(), "uint") {
		return "0", json.Number(strconv.FormatUint(1<<bits-1, 10))
	}
	return json.Number(strconv.FormatInt(-1<<(bits-1), 10)), json.Number(strconv.FormatInt(1<<(bits-1)-1, 10))
}

// enumJSON lists the values as the file holds them: numbers as numbers.
func enumJSON(t reflect.Type, enum []string) []any {
	list := make([]any, len(enum))
	for i, text := range enum {
		list[i] = text
		v := reflect.New(t).Elem()
		if !isTextual(t) && set(v, text) == nil {
			list[i] = v.Interface()
		}
	}
	return list
}
