package callers

import (
	"strings"
	"testing"
)

func TestTemplate(t *testing.T) {
	tests := []struct{ text, want, fault string }{
		{"", "", ""},
		{"plain", "plain", ""},
		{"{tenant}", "<tenant>", ""},
		{"a {tenant}{team} b", "a <tenant><team> b", ""},
		{`{"json": {}, { tenant }}`, `{"json": {}, { tenant }}`, ""},
		{"{tenant", "{tenant", ""},
		{"{{tenant}}", "{<tenant>}", ""},
		{strings.Repeat("{team}", maxHoles), strings.Repeat("<team>", maxHoles), ""},
		{strings.Repeat("{team}", maxHoles+1), "", "there are more than 64 holes to fill in"},
		{"{tenat}", "", "{tenat} is nothing that can be filled in: write {tenant} {team}"},
	}
	for _, tt := range tests {
		parsed, err := ParseTemplate(tt.text, "tenant", "team")
		if (err == nil) != (tt.fault == "") || err != nil && err.Error() != tt.fault {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.fault)
			continue
		}
		got := string(parsed.Append(nil, func(b []byte, hole string) []byte { return append(b, "<"+hole+">"...) }))
		if got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

// FuzzTemplate: a template whose holes are filled with themselves is the text it was read from.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"a {tenant}", "{{team}}", "{}", "{x}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := ParseTemplate(text, "tenant", "team")
		if err != nil {
			if !strings.Contains(text, "{") || !strings.Contains(text, "}") {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if got := string(parsed.Append(nil, func(b []byte, hole string) []byte { return append(b, "{"+hole+"}"...) })); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	})
}

func TestAppendName(t *testing.T) {
	if got, want := string(AppendName(nil, []byte("Qwen/qwen3-8b:x@1+a.\n\"é_"), 64)), "Qwen/qwen3-8b:x@1+a._____"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := string(AppendName(nil, []byte("abc"), 2)); got != "ab" {
		t.Errorf("got %q", got)
	}
}
