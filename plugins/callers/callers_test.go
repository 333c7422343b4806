package callers

import (
	"strings"
	"testing"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

func TestNames(t *testing.T) {
	call := Call{Key: []byte("k1"), Tenant: []byte("acme-eu"), Team: []byte("ops"), Route: []byte("chat"), Model: []byte("qwen3-8b")}
	tests := []struct {
		name string
		rule Rule
		want bool
	}{
		{"everyone", Rule{}, true},
		{"by key", Rule{Keys: []string{"k0", "k1"}}, true},
		{"another key", Rule{Keys: []string{"k"}}, false},
		{"by the beginning", Rule{Tenants: []string{"acme*"}}, true},
		{"by any", Rule{Tenants: []string{"*"}}, true},
		{"any of an unknown one", Rule{Tiers: []string{"*"}}, true},
		{"an unknown one", Rule{Tiers: []string{"free"}}, false},
		{"all must name it", Rule{Tenants: []string{"acme*"}, Teams: []string{"dev"}}, false},
		{"route and model", Rule{Routes: []string{"chat"}, Models: []string{"qwen3*"}}, true},
		{"another route", Rule{Routes: []string{"responses"}}, false},
		{"longer than the name", Rule{Keys: []string{"k12*"}}, false},
	}
	for _, tt := range tests {
		if got := tt.rule.Names(&call); got != tt.want {
			t.Errorf("%s: got %t", tt.name, got)
		}
	}
}

func TestSet(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"keys", `["a","b*"]`, ""},
		{"tenants", `["*"]`, ""},
		{"teams", `"a"`, "teams must be a list"},
		{"tiers", `[]`, "list of 1 to 256"},
		{"routes", `["a*b"]`, `in "a*b" a * stands before the end`},
		{"models", `[""]`, "1 to 128 bytes"},
		{"keys", `["` + strings.Repeat("x", 129) + `"]`, "1 to 128 bytes"},
		{"key", `["a"]`, "unknown"},
	}
	for _, tt := range tests {
		v, err := nexus.ParseJSON([]byte(tt.value))
		if err != nil {
			t.Fatal(err)
		}
		var r Rule
		known, err := r.Set(tt.name, v)
		got := ""
		switch {
		case !known:
			got = "unknown"
		case err != nil:
			got = err.Error()
		}
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s %s: got %q, want %q", tt.name, tt.value, got, tt.want)
		}
	}
}

func TestAppendPlain(t *testing.T) {
	tests := []struct {
		text, want string
		most       int
	}{
		{"a", "a", 1}, {"ab", "a…", 1}, {"", "", 0}, {"a\nb\x00\u0085\xff", "a?b???", 64}, {"가나", "가…", 5},
	}
	for _, tt := range tests {
		if got := string(AppendPlain(nil, []byte(tt.text), tt.most)); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}
