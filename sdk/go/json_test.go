package nexus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseJSON(t *testing.T) {
	j, err := ParseJSON([]byte(` {"tools":{"a b":{"schema":{"type":"object"},"n":-12}},"list":[1.5,"x\u00e9\ud83d\ude00",[],{}],"yes":true,"no":false,"nil":null, "texts":["p" , "q"]} `))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		got  any
		want any
	}{
		{"object", j.Kind(), KindObject},
		{"members", j.Len(), 6},
		{"raw", j.Get("tools").Get("a b").Get("schema").Raw(), `{"type":"object"}`},
		{"int", first(j.Get("tools").Get("a b").Get("n").Int()), int64(-12)},
		{"number", first(j.Get("list").Index(0).Number()), 1.5},
		{"not a whole number", second(j.Get("list").Index(0).Int()), false},
		{"escapes", first(j.Get("list").Index(1).Text()), "xé😀"},
		{"elements", j.Get("list").Len(), 4},
		{"empty list", j.Get("list").Index(2).Len(), 0},
		{"beyond", j.Get("list").Index(4).Kind(), KindNone},
		{"absent", j.Get("none").Get("none").Index(0).Kind(), KindNone},
		{"true", first(j.Get("yes").Bool()), true},
		{"false", second(j.Get("no").Bool()), true},
		{"null", j.Get("nil").Kind(), KindNull},
		{"texts", first(j.Get("texts").Texts()), []string{"p", "q"}},
		{"mixed", second(j.Get("list").Texts()), false},
		{"no list", second(j.Get("yes").Texts()), false},
		{"text of a number", second(j.Get("tools").Get("a b").Get("n").Text()), false},
	}
	for _, tt := range tests {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

func first[A, B any](a A, _ B) A  { return a }
func second[A, B any](_ A, b B) B { return b }

func TestParseJSONRefuses(t *testing.T) {
	for _, bad := range []string{
		``, ` `, `{`, `[`, `{"a"}`, `{"a":}`, `{"a":1 "b":2}`, `{"a":1,}`, `[1,]`, `[,1]`, `"x`, `"\x"`, `"\u12"`, "\"\n\"", `01`, `-`, `1.`, `.5`, `1e`, `+1`,
		`tru`, `nul`, `{} x`, `{a:1}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, "\"\xff\"", "1\x00", strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1),
	} {
		if j, err := ParseJSON([]byte(bad)); err == nil || j.Kind() != KindNone {
			t.Errorf("%q: got %q, %v; want an error", bad, j.Raw(), err)
		}
	}
	if _, err := ParseJSON([]byte(strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth))); err != nil {
		t.Error(err)
	}
}

func TestEachStops(t *testing.T) {
	j, err := ParseJSON([]byte(`{"a":1,"b":2}`))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	got := j.EachMember(func(name string, _ JSON) error { names = append(names, name); return Error("enough") })
	if got != Error("enough") || len(names) != 1 {
		t.Errorf("got %v after %q", got, names)
	}
	if err := j.EachElement(func(int, JSON) error { return Error("an object has no elements") }); err != nil {
		t.Error(err)
	}
}

// value rebuilds what encoding/json makes of a JSON.
func value(j JSON) any {
	switch j.Kind() {
	case KindBool:
		return first(j.Bool())
	case KindNumber:
		return first(j.Number())
	case KindText:
		return first(j.Text())
	case KindList:
		list := []any{}
		for i := range j.Len() {
			list = append(list, value(j.Index(i)))
		}
		return list
	case KindObject:
		all := map[string]any{}
		_ = j.EachMember(func(name string, v JSON) error { all[name] = value(v); return nil })
		return all
	}
	return nil
}

// FuzzParseJSON: what is taken is JSON, and says what encoding/json reads; what encoding/json takes is taken, unless it is not
// strict: a name twice, bytes that are not UTF-8, too deep, a number beyond float64.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e3,"\ud83d\ude00",{"b":null}],"c":true}`, `"\ud83d\u0041"`, ` [ ] `, `{"a":1,"a":2}`, `-0`, `[[[[]]]]`, "1\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<12 {
			return
		}
		j, err := ParseJSON(b)
		var want any
		wantErr := json.Unmarshal(b, &want)
		if err == nil && wantErr != nil && json.Valid(b) {
			return // a number beyond float64
		}
		if err == nil && wantErr != nil {
			t.Fatalf("%q is taken, but %v", b, wantErr)
		}
		if err == nil && !reflect.DeepEqual(value(j), want) {
			t.Fatalf("%q: got %v, want %v", b, value(j), want)
		}
		if err == nil && !bytes.Contains(b, []byte(j.Raw())) {
			t.Fatalf("%q: raw %q", b, j.Raw())
		}
		if err != nil && wantErr == nil && utf8.Valid(b) && !bytes.ContainsAny(b, "{[") {
			t.Fatalf("%q is refused: %v", b, err)
		}
		_ = fmt.Sprint(j.Kind())
	})
}
