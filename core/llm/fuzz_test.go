package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

var fuzzBodies = []string{
	`{"model":"m","messages":[{"role":"user","content":"a\ud83d\ude00\n한국 bob@x.kr"}],"stream":true,"n":2,"max_tokens":5}`,
	`{"model":"m","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\":\"b\\n\"}"}}]}],"x":{"y":[1,2.5e3,null]}}`,
	`{"prompt":["a","b"],"model":"\u006d","stream_options":{"include_usage":true}, "z" : 1 }`,
	`{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"t"}]}],"instructions":"i","max_output_tokens":3}`,
	`{"model":"m","query":"q","documents":["가",{"text":"나"}],"temperature":-0.5}`,
	`{"model":"m","Model":"n","messages":[{"role":"user","content":"x"}]}`,
	`{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":1e2,"a":1,"a":2}`,
}

// FuzzParseRequest: what is taken is valid JSON, and model, stream, n and max_tokens are what
// encoding/json reads into a map, whose keys are exact.
func FuzzParseRequest(f *testing.F) {
	for _, s := range fuzzBodies {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		kept := bytes.Clone(body)
		for _, e := range []Endpoint{Chat, Completions, Responses, Embeddings, Rerank, Score, Tokenize} {
			checkRequest(t, e, body)
		}
		if !bytes.Equal(body, kept) {
			t.Fatal("the body was changed")
		}
	})
}

func checkRequest(t *testing.T, e Endpoint, body []byte) {
	var r Request
	if err := ParseRequest(e, body, &r); err != nil {
		var be *BodyError
		if !errors.As(err, &be) || be.Reason == "" || !utf8.ValidString(be.Param) {
			t.Fatalf("%s: got %#v", e, err)
		}
		return
	}
	if !json.Valid(body) || !utf8.Valid(body) {
		t.Fatalf("%s: %q was taken", e, body)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var want map[string]any
	if err := d.Decode(&want); err != nil {
		t.Fatal(err)
	}
	stream, _ := want["stream"].(bool)
	if r.Model != want["model"] || r.Stream != stream {
		t.Fatalf("%s: got model %q, stream %v, want %v, %v", e, r.Model, r.Stream, want["model"], stream)
	}
	n, limit := any(json.Number(fmt.Sprint(r.N))), any(json.Number(fmt.Sprint(r.MaxTokens)))
	if w := want["n"]; w != nil && w != n {
		t.Fatalf("%s: got n %v, want %v", e, n, w)
	}
	if w := want["max_tokens"]; w != nil && want["max_completion_tokens"] == nil && w != limit {
		t.Fatalf("%s: got max_tokens %v, want %v", e, limit, w)
	}
	if len(r.fields) != len(want) {
		t.Fatalf("%s: got %d members, want %d", e, len(r.fields), len(want))
	}
	for _, x := range r.Texts {
		var s string
		if err := json.Unmarshal(body[x.At.Start-1:x.At.End+1], &s); err != nil || s != string(AppendText(nil, body, x)) {
			t.Fatalf("%s: text %q: %v", e, body[x.At.Start-1:x.At.End+1], err)
		}
	}
}

// FuzzPatch: an empty patch gives the same bytes; an edit of one text changes that text alone; a member
// set, added or dropped changes nothing else.
func FuzzPatch(f *testing.F) {
	for i, s := range fuzzBodies {
		f.Add([]byte(s), "X\"\\\n한😀", uint(i), uint(2), uint(5))
	}
	f.Fuzz(func(t *testing.T, body []byte, with string, which, from, to uint) {
		for _, e := range []Endpoint{Chat, Completions, Responses, Rerank} {
			var r Request
			if ParseRequest(e, body, &r) != nil {
				continue
			}
			var p Patch
			if got := applied(t, &p, string(body)); got != string(body) {
				t.Fatalf("an empty patch made %q", got)
			}
			checkMembers(t, e, &r, with, int(which%uint(len(r.fields))))
			if len(r.Texts) > 0 {
				checkEdit(t, e, &r, with, int(which%uint(len(r.Texts))), int(from%99), int(to%99))
			}
		}
	})
}

func checkEdit(t *testing.T, e Endpoint, r *Request, with string, which, from, to int) {
	x := r.Texts[which]
	old := string(AppendText(nil, r.Body, x))
	from, to = min(from, len(old)), min(to, len(old))
	boundary := func(i int) bool { return i == len(old) || utf8.RuneStart(old[i]) }
	var p Patch
	err := p.EditText(r.Body, x, []Edit{{Start: from, End: to, With: []byte(with)}})
	if fits := from <= to && boundary(from) && boundary(to); x.Channel != ToolArguments && fits != (err == nil) {
		t.Fatalf("edit [%d, %d) of %q: %v", from, to, old, err)
	}
	if err != nil {
		return
	}
	out := applied(t, &p, string(r.Body))
	head, tail := string(r.Body[:x.At.Start]), string(r.Body[x.At.End:])
	if !strings.HasPrefix(out, head) || !strings.HasSuffix(out, tail) || len(out) < len(head)+len(tail) {
		t.Fatalf("edit of %d:%d made %q of %q", x.At.Start, x.At.End, out, r.Body)
	}
	got := string(AppendText(nil, []byte(out), Text{At: Span{len(head), len(out) - len(tail)}}))
	want := old[:from] + strings.ToValidUTF8(with, "\ufffd") + old[to:]
	if x.Channel != ToolArguments && len(got) != len(want) && utf8.ValidString(with) || x.Channel != ToolArguments && utf8.ValidString(with) && got != want {
		t.Fatalf("edit [%d, %d) of %q made %q, want %q", from, to, old, got, want)
	}
	if x.Channel == ToolArguments && json.Valid([]byte(old)) && from == to && strings.Count(old[:from], `"`)%2 == 1 && !strings.Contains(old, `\`) && !json.Valid([]byte(got)) {
		t.Fatalf("an insertion at %d of %q made %q", from, old, got)
	}
	if other := parsedAfter(t, e, out, r); other != nil {
		others := func(r *Request) (all []string) {
			for i, y := range r.Texts {
				if i != which {
					all = append(all, string(AppendText(nil, r.Body, y)))
				}
			}
			return all
		}
		if !reflect.DeepEqual(others(other), others(r)) {
			t.Fatalf("other texts changed: %q", out)
		}
	}
}

func parsedAfter(t *testing.T, e Endpoint, out string, r *Request) *Request {
	again := new(Request)
	if err := ParseRequest(e, []byte(out), again); err != nil {
		t.Fatalf("%q became %q: %v", r.Body, out, err)
	}
	return again
}

func checkMembers(t *testing.T, e Endpoint, r *Request, with string, which int) {
	members := func(body []byte) map[string]json.RawMessage {
		m := map[string]json.RawMessage{}
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		return m
	}
	name, added := r.fields[which].name, "added "+strings.ToValidUTF8(with, "?")
	want := members(r.Body)
	delete(want, name)
	if _, has := want[added]; has || added == name {
		return
	}
	var p Patch
	p.DropField(r, name)
	if got := members([]byte(applied(t, &p, string(r.Body)))); !reflect.DeepEqual(got, want) {
		t.Fatalf("without %q: got %q, want %q", name, got, want)
	}
	value := AppendString(nil, with)
	want[added] = value
	p.SetField(r, added, value)
	if got := members([]byte(applied(t, &p, string(r.Body)))); !reflect.DeepEqual(got, want) {
		t.Fatalf("with %q: got %q, want %q", added, got, want)
	}
	want[name] = value
	p.SetField(r, name, value)
	if got := members([]byte(applied(t, &p, string(r.Body)))); !reflect.DeepEqual(got, want) {
		t.Fatalf("with another %q: got %q, want %q", name, got, want)
	}
}
