package llm

// Valid reports whether b is one JSON value and nothing else.
func Valid(b []byte) bool {
	s := scanner{b: b}
	s.skip()
	s.end()
	return s.err == nil
}

// FieldAt returns where in the body the value of the top-level member name stands.
func (r *Request) FieldAt(name string) (at Span, ok bool) {
	if i := r.field(name); i >= 0 {
		return r.fields[i].value, true
	}
	return Span{}, false
}

// Parameters returns the JSON Schema with which the request offers the function name, nil if it does not.
func (r *Request) Parameters(name string) []byte {
	for _, member := range [...]string{"tools", "functions"} {
		raw, ok := r.Field(member)
		if !ok || len(raw) == 0 || raw[0] != '[' {
			continue
		}
		s := scanner{b: raw}
		a := s.array()
		for s.elem(&a) {
			if found := s.offer(name); found != nil {
				return found
			}
		}
	}
	return nil
}

// offer takes one tool, in the chat API's words or the Responses API's, and returns the parameters of the function
// if it is the one called name.
func (s *scanner) offer(name string) (parameters []byte) {
	if s.peek() != '{' {
		s.skip()
		return nil
	}
	named := false
	o := s.object(nil)
	for s.next(&o) {
		switch string(o.key) {
		case "function":
			if inner := s.offer(name); inner != nil {
				return inner
			}
		case "name":
			s.peek()
			from := s.i
			s.skip()
			raw := s.b[from:s.i]
			named = len(raw) >= 2 && raw[0] == '"' && string(appendDecoded(nil, raw[1:len(raw)-1])) == name
		case "parameters":
			s.peek()
			from := s.i
			s.skip()
			parameters = s.b[from:s.i]
		default:
			s.skip()
		}
	}
	switch {
	case !named:
		return nil
	case parameters == nil:
		return []byte("{}") // a function may be offered without a word about its arguments
	}
	return parameters
}
