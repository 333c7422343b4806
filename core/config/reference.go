package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Reference returns a file that sets every setting of the configuration struct v or *v to its default,
// each under its sentence. What has no default stands there as a comment. Decoding it gives the
// defaults.
func Reference(v any) ([]byte, error) {
	t := reflect.TypeOf(v)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var r reference
	if !r.section(t, "", false) {
		r.b.WriteString("{}\n")
	}
	return []byte(r.b.String()), r.err
}

type reference struct {
	b   strings.Builder
	err error
}

// section prints the fields of t and reports whether any of them is set. In a commented section all
// of it is comment.
func (r *reference) section(t reflect.Type, indent string, commented bool) (set bool) {
	for i, f := range fields(t) {
		if indent == "" && i > 0 {
			r.b.WriteString("\n")
		}
		if f.doc != "" {
			r.sentence(indent, f.doc)
		}
		if r.field(f, indent, commented) {
			set = true
		}
	}
	return set
}

func (r *reference) field(f field, indent string, commented bool) (set bool) {
	t := f.typ
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
		commented = commented || !f.hasDefault
	}
	switch {
	case isScalar(t):
		return r.scalar(f, t, indent, commented)
	case t.Kind() == reflect.Struct:
		return r.nested(f.name, t, indent, commented)
	}
	return r.collection(f, t, indent, commented)
}

// nested prints a section; one in which nothing is set is a comment as a whole, for a key without a
// value is refused.
func (r *reference) nested(name string, t reflect.Type, indent string, commented bool) (set bool) {
	var body reference
	set = body.section(t, indent+"  ", commented)
	if !set && !commented {
		body = reference{err: body.err}
		body.section(t, indent+"  ", true)
	}
	r.line(indent, commented || !set, name+":")
	r.b.WriteString(body.b.String())
	r.err = firstError(r.err, body.err)
	return set && !commented
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (r *reference) scalar(f field, t reflect.Type, indent string, commented bool) (set bool) {
	note := ""
	if len(f.enum) > 0 {
		note = " # one of " + listed(f.enum)
	}
	if !f.hasDefault || f.fallback == "" {
		if note == "" {
			note = " # " + wants(t)
		}
		r.line(indent, true, f.name+":"+note)
		return false
	}
	r.line(indent, commented, f.name+": "+r.word(t, f.fallback)+note)
	return !commented
}

// collection prints a list or a table: its default, or the form of one item as a comment.
func (r *reference) collection(f field, t reflect.Type, indent string, commented bool) (set bool) {
	if t.Kind() == reflect.Slice && len(f.defaultItems()) > 0 {
		words := f.defaultItems()
		for i := range words {
			words[i] = r.word(t.Elem(), words[i])
		}
		r.line(indent, commented, f.name+": ["+strings.Join(words, ", ")+"]")
		return !commented
	}
	if t.Kind() == reflect.Interface {
		r.line(indent, true, f.name+": # anything")
		return false
	}
	r.line(indent, true, f.name+":")
	item, mark := t.Elem(), "NAME:"
	if t.Kind() == reflect.Slice {
		mark = "-"
	}
	for item.Kind() == reflect.Pointer {
		item = item.Elem()
	}
	switch {
	case item.Kind() == reflect.Struct && !isScalar(item):
		r.line(indent+"  ", true, mark)
		r.section(item, indent+"    ", true)
	case isScalar(item):
		r.line(indent+"  ", true, mark+" # "+wants(item))
	default:
		r.line(indent+"  ", true, mark+" # anything")
	}
	return false
}

// line prints a setting. A commented one begins with #, a sentence with # and a space: whoever takes off
// the # of a setting has it at its place.
func (r *reference) line(indent string, commented bool, text string) {
	if commented {
		text = "#" + text
	}
	r.b.WriteString(indent + text + "\n")
}

// width is where sentences are broken, in characters.
const width = 110

func (r *reference) sentence(indent, doc string) {
	line := indent + "#"
	for _, word := range strings.Fields(doc) {
		if utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width && !strings.HasSuffix(line, "#") {
			r.b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	r.b.WriteString(line + "\n")
}

// word writes text so that YAML reads the same text again.
func (r *reference) word(t reflect.Type, text string) string {
	text = strings.ReplaceAll(text, "${", "$${")
	if !isTextual(t) {
		return text
	}
	b, err := yaml.Marshal(text)
	if err != nil {
		r.err = firstError(r.err, fmt.Errorf("config: reference: %w", err))
	}
	if word := strings.TrimSuffix(string(b), "\n"); !strings.Contains(word, "\n") {
		return word
	}
	return strconv.Quote(text)
}
