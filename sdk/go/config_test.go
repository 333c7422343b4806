package nexus

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// settings writes what EachSetting reads, in order of key.
func settings(config string) (string, error) {
	all := map[string]string{}
	err := EachSetting([]byte(config), func(key string, v Value) error {
		switch s, isText := v.String(); {
		case isText:
			all[key] = fmt.Sprintf("%q", s)
		case v.kind == 'l':
			all[key] = fmt.Sprintf("%q", v.texts)
		case v.kind == 't' || v.kind == 'f':
			all[key] = fmt.Sprint(v.kind == 't')
		case v.kind == 'n':
			all[key] = "number"
		default:
			all[key] = "null"
		}
		return nil
	})
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%q=%s ", k, all[k])
	}
	return b.String(), err
}

func TestEachSetting(t *testing.T) {
	tests := []struct{ in, want string }{
		{`{}`, ``}, {` `, ``},
		{`{"a":"x\n\u00e9\"","b":[ "1" , "2" ],"c":true,"d":false,"e":-1.5e3,"f":null,"g":[]}`, `"a"="x\né\"" "b"=["1" "2"] "c"=true "d"=false "e"=number "f"=null "g"=[] `},
	}
	for _, tt := range tests {
		if got, err := settings(tt.in); err != nil || got != tt.want {
			t.Errorf("%s: got %s, %v; want %s", tt.in, got, err, tt.want)
		}
	}
	for _, bad := range []string{`[]`, `{`, `{"a"}`, `{"a":}`, `{"a":1 "b":2}`, `{"a":{}}`, `{"a":[1]}`, `{"a":"x}`, `{"a":"\x"}`, `{"a":"\u12"}`, `{} x`, `{"a":1,}`} {
		if got, err := settings(bad); err == nil {
			t.Errorf("%s: got %s, want an error", bad, got)
		}
	}
}

func TestInt(t *testing.T) {
	for in, want := range map[string]int{"0": 0, "-12": -12, "999999999": 999999999} {
		if n, ok := (Value{kind: 'n', text: in}).Int(); !ok || n != want {
			t.Errorf("%s: got %d, %t", in, n, ok)
		}
	}
	for _, in := range []string{"", "-", "1.5", "1e3", "12345678901"} {
		if n, ok := (Value{kind: 'n', text: in}).Int(); ok {
			t.Errorf("%s: got %d", in, n)
		}
	}
}

// FuzzEachSetting: whatever JSON the gateway writes for flat settings is read as encoding/json reads it.
func FuzzEachSetting(f *testing.F) {
	f.Add("key", "value", "\u00e9\n", true)
	f.Add("", "\x00\"\\", "</script>", false)
	f.Fuzz(func(t *testing.T, key, text, item string, yes bool) {
		raw, err := json.Marshal(map[string]any{key: text, key + "l": []string{item, text}, key + "b": yes})
		if err != nil {
			t.Skip()
		}
		var want map[string]any
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		n := 0
		err = EachSetting(raw, func(k string, v Value) error {
			n++
			switch w := want[k].(type) {
			case string:
				if s, ok := v.String(); !ok || s != w {
					t.Errorf("%q: got %q, want %q", k, s, w)
				}
			case bool:
				if b, ok := v.Bool(); !ok || b != w {
					t.Errorf("%q: got %t", k, b)
				}
			case []any:
				if list, ok := v.Strings(); !ok || len(list) != 2 || list[0] != w[0] || list[1] != w[1] {
					t.Errorf("%q: got %q, want %q", k, list, w)
				}
			}
			return nil
		})
		if err != nil || n != len(want) {
			t.Fatalf("%s: %d settings of %d, %v", raw, n, len(want), err)
		}
	})
}

// FuzzEachSettingAnything: nothing makes it panic.
func FuzzEachSettingAnything(f *testing.F) {
	f.Add([]byte(`{"a":"x\u00`))
	f.Fuzz(func(t *testing.T, config []byte) {
		_ = EachSetting(config, func(string, Value) error { return nil })
	})
}
