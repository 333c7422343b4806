package llm

import "bytes"

// An APIError is OpenAI's error object.
type APIError struct {
	Message string
	Type    string
	Param   string // "": null
	Code    string // "": null
}

// AppendError appends {"error":{…}} to dst.
func AppendError(dst []byte, e APIError) []byte {
	dst = AppendString(append(dst, `{"error":{"message":`...), e.Message)
	dst = AppendString(append(dst, `,"type":`...), e.Type)
	dst = appendOrNull(append(dst, `,"param":`...), e.Param)
	dst = appendOrNull(append(dst, `,"code":`...), e.Code)
	return append(dst, "}}"...)
}

func appendOrNull(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return AppendString(dst, s)
}

// ReadError reads a backend's error body in any of its shapes: nested, flat (SGLang), {"error":"text"},
// {"detail":…}; ok is false when it is none of them.
func ReadError(body []byte) (e APIError, ok bool) {
	x := viewer{scanner: scanner{b: body}, v: new(View)}
	if x.peek() != '{' {
		return APIError{}, false
	}
	x.errorObject(&e)
	x.end()
	return e, x.err == nil && e.Message != ""
}

// errorObject reads an error object, or one that holds another.
func (x *viewer) errorObject(e *APIError) {
	o := x.object(nil)
	for x.next(&o) {
		switch string(o.key) {
		case "error":
			x.errorValue(e)
		case "message":
			x.scalar(&e.Message)
		case "type":
			x.scalar(&e.Type)
		case "param":
			x.scalar(&e.Param)
		case "code":
			x.scalar(&e.Code)
		case "detail", "msg": // FastAPI
			x.errorValue(e)
		default:
			x.skip()
		}
	}
}

// errorValue reads what stands for an error: a sentence, an error object, or a list of which the first
// counts.
func (x *viewer) errorValue(e *APIError) {
	switch x.peek() {
	case '{':
		x.errorObject(e)
	case '[':
		a := x.array()
		for x.elem(&a) {
			var other APIError
			if a.n == 1 {
				x.errorValue(e)
				continue
			}
			x.errorValue(&other)
		}
	case '"':
		x.scalar(&e.Message)
	default:
		x.skip()
	}
}

// scalar reads a string, or a number as it is written, into s; null and all else leave it as it was.
func (x *viewer) scalar(s *string) {
	c := x.peek()
	if c != '"' && c != '-' && c-'0' > 9 {
		x.skip()
		return
	}
	from := x.i
	x.skip()
	raw := x.b[from:x.i]
	if c == '"' && len(raw) >= 2 {
		raw = appendDecoded(nil, raw[1:len(raw)-1])
	}
	*s = string(bytes.TrimSpace(raw))
}
