package llm

import (
	"strings"
	"testing"
)

// TestCallsAreAllSeen: no tool call of a reply escapes the view, however many there are and however they say it.
func TestCallsAreAllSeen(t *testing.T) {
	var v View
	body := func(calls string) []byte {
		return []byte(`{"choices":[{"message":{"tool_calls":[` + calls + `]}}]}`)
	}
	one := `{"function":{"name":"f"}},`
	if err := v.Scan(Chat, false, body(strings.Repeat(one, maxTexts)+strings.TrimSuffix(one, ","))); err == nil && len(v.Calls) != maxTexts+1 {
		t.Errorf("%d calls are seen of %d", len(v.Calls), maxTexts+1)
	}
	for arguments, odd := range map[string]bool{`"{}"`: false, `{"cmd":"rm"}`: true, `["rm"]`: true, `7`: true, `null`: false} {
		if err := v.Scan(Chat, false, body(`{"function":{"name":"f","arguments":`+arguments+`}}`)); err != nil || len(v.Calls) != 1 || v.Calls[0].Odd != odd {
			t.Errorf("%s: %+v, %v", arguments, v.Calls, err)
		}
	}
}
