package nexus

// A Value is one setting of a plugin's configuration: a text, a number, a truth or a list of texts.
type Value struct {
	kind  byte // s text, l list, n number, t true, f false, 0 null
	text  string
	texts []string
}

// String returns a text.
func (v Value) String() (string, bool) { return v.text, v.kind == 's' }

// Strings returns a list of texts.
func (v Value) Strings() ([]string, bool) { return v.texts, v.kind == 'l' }

// Bool returns a truth.
func (v Value) Bool() (value, ok bool) { return v.kind == 't', v.kind == 't' || v.kind == 'f' }

// Int returns a whole number.
func (v Value) Int() (n int, ok bool) {
	digits := v.text
	if v.kind != 'n' || digits == "" {
		return 0, false
	}
	negative := digits[0] == '-'
	if negative {
		digits = digits[1:]
	}
	if digits == "" || len(digits) > 9 {
		return 0, false
	}
	for i := 0; i < len(digits); i++ {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false
		}
		n = n*10 + int(digits[i]-'0')
	}
	if negative {
		n = -n
	}
	return n, true
}

// EachSetting calls f for every member of a configuration, a JSON object whose values are texts,
// numbers, truths or lists of texts; ParseJSON reads deeper ones. It is read without encoding/json, which alone would
// double a plugin's size and start.
func EachSetting(config []byte, f func(key string, value Value) error) error {
	r := reader{b: config}
	if r.peek() == 0 {
		return nil
	}
	if !r.take('{') {
		return malformed
	}
	for first := true; !r.take('}'); first = false {
		if !first && !r.take(',') {
			return malformed
		}
		key, ok := r.string()
		if !ok || !r.take(':') {
			return malformed
		}
		value, ok := r.value()
		if !ok {
			return Error("setting " + key + " must be a text, a number, true, false or a list of texts")
		}
		if err := f(key, value); err != nil {
			return err
		}
	}
	if r.peek() != 0 {
		return malformed
	}
	return nil
}

const malformed = Error("configuration is not a JSON object")

type reader struct {
	b []byte
	i int
}

// peek returns the next byte after white space, 0 at the end.
func (r *reader) peek() byte {
	for ; r.i < len(r.b); r.i++ {
		if c := r.b[r.i]; c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}

func (r *reader) take(c byte) bool {
	if r.peek() != c {
		return false
	}
	r.i++
	return true
}

func (r *reader) value() (Value, bool) {
	switch c := r.peek(); {
	case c == '"':
		s, ok := r.string()
		return Value{kind: 's', text: s}, ok
	case c == '[':
		return r.list()
	case r.literal("true"):
		return Value{kind: 't'}, true
	case r.literal("false"):
		return Value{kind: 'f'}, true
	case r.literal("null"):
		return Value{}, true
	case c == '-' || c >= '0' && c <= '9':
		return Value{kind: 'n', text: r.number()}, true
	}
	return Value{}, false
}

func (r *reader) literal(s string) bool {
	if len(r.b)-r.i < len(s) || string(r.b[r.i:r.i+len(s)]) != s {
		return false
	}
	r.i += len(s)
	return true
}

func (r *reader) number() string {
	start := r.i
	for r.i < len(r.b) && numberByte(r.b[r.i]) {
		r.i++
	}
	return string(r.b[start:r.i])
}

func numberByte(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

func (r *reader) list() (Value, bool) {
	v := Value{kind: 'l'}
	r.take('[')
	for first := true; !r.take(']'); first = false {
		if !first && !r.take(',') {
			return v, false
		}
		s, ok := r.string()
		if !ok {
			return v, false
		}
		v.texts = append(v.texts, s)
	}
	return v, true
}

func (r *reader) string() (string, bool) {
	if !r.take('"') {
		return "", false
	}
	var s []byte
	for r.i < len(r.b) {
		c := r.b[r.i]
		r.i++
		switch {
		case c == '"':
			return string(s), true
		case c < ' ':
			return "", false
		case c != '\\':
			s = append(s, c)
		default:
			var ok bool
			if s, ok = r.escape(s); !ok {
				return "", false
			}
		}
	}
	return "", false
}

// escape reads what follows a backslash.
func (r *reader) escape(s []byte) ([]byte, bool) {
	if r.i >= len(r.b) {
		return s, false
	}
	c := r.b[r.i]
	r.i++
	switch c {
	case '"', '\\', '/':
		return append(s, c), true
	case 'n':
		return append(s, '\n'), true
	case 't':
		return append(s, '\t'), true
	case 'r':
		return append(s, '\r'), true
	case 'b':
		return append(s, '\b'), true
	case 'f':
		return append(s, '\f'), true
	case 'u':
		return r.rune(s)
	}
	return s, false
}

// rune reads the digits of \u, and those of the second half of a pair. A half that comes alone becomes U+FFFD, as
// everywhere in Go.
func (r *reader) rune(s []byte) ([]byte, bool) {
	v := r.unit()
	if v >= 0xd800 && v < 0xdc00 && r.i+2 <= len(r.b) && r.b[r.i] == '\\' && r.b[r.i+1] == 'u' {
		before := r.i
		r.i += 2
		if low := r.unit(); low >= 0xdc00 && low < 0xe000 {
			v = 0x10000 + (v-0xd800)<<10 + low - 0xdc00
		} else {
			r.i = before
		}
	}
	return append(s, string(v)...), v >= 0
}

// unit reads four hexadecimal digits, -1 if there are none.
func (r *reader) unit() rune {
	if len(r.b)-r.i < 4 {
		return -1
	}
	v := rune(0)
	for _, c := range r.b[r.i : r.i+4] {
		d := hex(c)
		if d < 0 {
			return -1
		}
		v = v<<4 | rune(d)
	}
	r.i += 4
	return v
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
