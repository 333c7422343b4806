package nexus

import (
	"strconv"
	"unicode/utf8"
)

// A JSON is one value of a JSON text that ParseJSON has found well-formed. The zero JSON is no value at all: what is
// not there is asked like what is, and answers no.
type JSON struct{ raw string }

// A JSONKind is what a JSON is.
type JSONKind uint8

// The kinds of JSON values.
const (
	KindNone JSONKind = iota // no value
	KindNull
	KindBool
	KindNumber
	KindText
	KindList
	KindObject
)

func (k JSONKind) String() string {
	return [...]string{"nothing", "null", "true or false", "a number", "a text", "a list", "an object"}[k]
}

// maxDepth bounds how deep a JSON text may be nested: it is read by recursion.
const maxDepth = 64

// ParseJSON reads a JSON text, such as a configuration or a tool call's arguments. It is strict: one value, valid UTF-8, no
// name twice in an object, at most 64 levels. It copies b, weighs a tenth of encoding/json, and reads a value each time it
// is asked for: read once, at configure, what every call needs.
func ParseJSON(b []byte) (JSON, error) {
	s := scanner{s: string(b)}
	if !utf8.ValidString(s.s) {
		return JSON{}, Error("not JSON: it is not UTF-8")
	}
	s.space()
	start := s.i
	if !s.value(0) {
		return JSON{}, s.fault()
	}
	end := s.i
	if s.space(); s.i < len(s.s) {
		return JSON{}, s.fault()
	}
	return JSON{s.s[start:end]}, nil
}

// Raw is the value as it was written.
func (j JSON) Raw() string { return j.raw }

func (j JSON) Kind() JSONKind {
	if j.raw == "" {
		return KindNone
	}
	switch j.raw[0] {
	case 'n':
		return KindNull
	case 't', 'f':
		return KindBool
	case '"':
		return KindText
	case '[':
		return KindList
	case '{':
		return KindObject
	}
	return KindNumber
}

// Text is a text's value.
func (j JSON) Text() (text string, ok bool) {
	if j.Kind() != KindText {
		return "", false
	}
	r := reader{b: []byte(j.raw)}
	return r.string()
}

// Bool is a truth's value.
func (j JSON) Bool() (value, ok bool) { return j.raw == "true", j.Kind() == KindBool }

// Int is a whole number's value, written without fraction and exponent.
func (j JSON) Int() (n int64, ok bool) {
	if j.Kind() != KindNumber {
		return 0, false
	}
	n, err := strconv.ParseInt(j.raw, 10, 64)
	return n, err == nil
}

// Number is a number's value; ok is false too for one that no float64 is near.
func (j JSON) Number() (n float64, ok bool) {
	if j.Kind() != KindNumber {
		return 0, false
	}
	n, err := strconv.ParseFloat(j.raw, 64)
	return n, err == nil
}

// Len is how many elements a list has, or members an object.
func (j JSON) Len() (n int) {
	_ = j.each(func(string, JSON) error { n++; return nil })
	return n
}

// Index is the i-th element of a list.
func (j JSON) Index(i int) (found JSON) {
	_ = j.EachElement(func(at int, v JSON) error {
		if at == i {
			found = v
			return stop
		}
		return nil
	})
	return found
}

// Get is an object's member of that name.
func (j JSON) Get(name string) (found JSON) {
	_ = j.EachMember(func(n string, v JSON) error {
		if n == name {
			found = v
			return stop
		}
		return nil
	})
	return found
}

const stop = Error("found")

// EachMember calls f for every member of an object, in the order in which they are written, until it returns an error,
// which EachMember returns. What is no object has no members.
func (j JSON) EachMember(f func(name string, value JSON) error) error {
	if j.Kind() != KindObject {
		return nil
	}
	return j.each(f)
}

// EachElement calls f for every element of a list until it returns an error, which EachElement returns. What is no list
// has no elements.
func (j JSON) EachElement(f func(i int, value JSON) error) error {
	if j.Kind() != KindList {
		return nil
	}
	i := -1
	return j.each(func(_ string, v JSON) error { i++; return f(i, v) })
}

// Texts is the value of a list of texts.
func (j JSON) Texts() (texts []string, ok bool) {
	err := j.EachElement(func(_ int, v JSON) error {
		s, isText := v.Text()
		if !isText {
			return stop
		}
		texts = append(texts, s)
		return nil
	})
	return texts, err == nil && j.Kind() == KindList
}

// each walks what is known to be well-formed; elements have no name.
func (j JSON) each(f func(name string, value JSON) error) error {
	k := j.Kind()
	if k != KindList && k != KindObject {
		return nil
	}
	s := scanner{s: j.raw, i: 1, trusted: true}
	for s.space(); s.i < len(s.s)-1; s.space() {
		name := ""
		if k == KindObject {
			name = s.name()
		}
		start := s.i
		s.value(0)
		if err := f(name, JSON{s.s[start:s.i]}); err != nil {
			return err
		}
		s.space()
		s.take(',')
	}
	return nil
}
