package llm

import "bytes"

// EachMember calls f for every member of a JSON object, in order, until f returns false. An error says that object is none;
// f has then seen the members before the mistake. name is valid during the call.
func EachMember(object []byte, f func(name []byte, m Member) bool) error {
	x := viewer{scanner: scanner{b: object}, v: new(View)}
	if x.peek() != '{' {
		x.bad("is no object")
		return x.err
	}
	o := x.object(nil)
	for x.next(&o) {
		if m := x.member(&o); x.err == nil && !f(o.key, m) {
			return nil
		}
	}
	x.end()
	if x.err != nil {
		return x.err
	}
	return nil
}

// Cut widens the place of a member by one comma beside it, so that cutting it leaves an object.
func Cut(payload []byte, member Span) Span {
	before := bytes.TrimRight(payload[:member.Start], " \t\r\n")
	if n := len(before); n > 0 && before[n-1] == ',' {
		return Span{n - 1, member.End}
	}
	after := bytes.TrimLeft(payload[member.End:], " \t\r\n")
	if len(after) > 0 && after[0] == ',' {
		return Span{member.Start, len(payload) - len(after) + 1}
	}
	return member
}
