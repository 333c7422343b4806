package main

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

func TestNumbers(t *testing.T) {
	tests := []struct {
		name, config string
		in           nexus.Call
		profile, by  string
	}{
		{"nothing", ``, nexus.Call{Bytes: 100, Turns: 1, MaxTokens: -1}, "general", "default"},
		{"few tokens", ``, nexus.Call{Bytes: 900, Turns: 2, MaxTokens: 32}, "background", "max_tokens"},
		{"few tokens, with tools", ``, nexus.Call{Bytes: 900, Turns: 2, MaxTokens: 32, Tools: []string{"weather"}}, "general", "default"},
		{"few tokens, many turns", ``, nexus.Call{Bytes: 900, Turns: 9, MaxTokens: 32}, "general", "default"},
		{"zero tokens", ``, nexus.Call{Bytes: 900, Turns: 2}, "general", "default"},
		{"long prompt", ``, nexus.Call{Bytes: 64 << 10, Turns: 2, MaxTokens: -1}, "longform", "bytes"},
		{"long answer", ``, nexus.Call{Bytes: 100, MaxTokens: 8192}, "longform", "max_tokens"},
		{"agent", ``, nexus.Call{Bytes: 9000, MaxTokens: -1, Tools: []string{"weather", "mcp__fs__Read_File"}}, "code", "tools"},
		{"no agent", ``, nexus.Call{Bytes: 9000, MaxTokens: -1, Tools: []string{"mybash"}}, "general", "default"},
		{"long prompt of an agent", ``, nexus.Call{Bytes: 1 << 20, MaxTokens: -1, Tools: []string{"Bash"}}, "longform", "bytes"},
		{"other order", `{"precedence":["code","longform","background","reasoning","general"]}`, nexus.Call{Bytes: 1 << 20, MaxTokens: -1, Tools: []string{"Bash"}}, "code", "tools"},
		{"images", `{"images":"reasoning"}`, nexus.Call{Bytes: 9000, Images: 1, MaxTokens: -1}, "reasoning", "images"},
		{"images say nothing", ``, nexus.Call{Bytes: 9000, Images: 1, MaxTokens: -1}, "general", "default"},
		{"thresholds", `{"longform":{"min_bytes":10}}`, nexus.Call{Bytes: 10, MaxTokens: -1}, "longform", "bytes"},
		{"own tool", `{"builtin":false,"code":{"tools":["Deploy"]}}`, nexus.Call{Tools: []string{"deploy", "bash"}, MaxTokens: -1}, "code", "tools"},
		{"no tools of ours", `{"builtin":false}`, nexus.Call{Tools: []string{"bash"}, MaxTokens: -1}, "general", "default"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := ready(t, tt.config)
			said, err := nexus.TryRequest(r.request, tt.in)
			if err != nil || said.Labels[labelProfile] != tt.profile || said.Labels[labelBy] != tt.by {
				t.Fatalf("got %v, %v; want %s by %s", said.Labels, err, tt.profile, tt.by)
			}
		})
	}
}

func ready(t testing.TB, config string) *router {
	t.Helper()
	r := defaults()
	if err := r.configure([]byte(config)); err != nil {
		t.Fatal(err)
	}
	return &r
}

// labelled puts a text in pieces through the router, after numbers that said general, or small, and returns the profile.
func labelled(t testing.TB, r *router, o nexus.Trial, small bool, pieces ...string) string {
	t.Helper()
	host := nexus.TryHost(nexus.NewHost())
	host.Labels[labelProfile] = "general"
	if small {
		host.Labels[labelSmall] = "true"
	}
	o.Context = context
	found, err := nexus.Try(r.text, o, pieces...)
	if err != nil {
		t.Fatalf("%q: %v", pieces, err)
	}
	if want := strings.Join(pieces, ""); found.Text != want || found.Held > utf8.UTFMax {
		t.Fatalf("%q: got %+v", pieces, found)
	}
	return host.Labels[labelProfile]
}

var last = nexus.Trial{Role: nexus.User, LastUser: true}

func TestWords(t *testing.T) {
	tests := []struct{ in, want string }{
		{"안녕하세요, 오늘 날씨 어때요?", "general"},
		{"What is the capital of Korea?", "general"},
		{"이 코드 좀 봐줘", "code"},
		{"```go\nfunc main() {}\n```", "code"},
		{"Please REFACTOR this.", "code"},
		{"refactored, javalin, rusty, pythonic", "general"},
		{"ｐｙｔｈｏｎ 으로", "code"},
		{"py\u200bthon으로", "code"},
		{"단위테스트를 추가해 줘", "code"},
		{"\u1107\u1165\u1100\u1173가 있어", "code"}, // 버그, decomposed
		{"\u1107\u1165\u1100\u1173\u11bc 아님", "general"},
		{"Think it over, step-by-step? Step  by\nstep.", "reasoning"},
		{"단계 별로 말고 단계별로", "reasoning"},
		{"피타고라스 정리를 증명해 줘", "reasoning"},
		{"C++ 질문", "code"},
		{"분기 보고서를 작성해 주세요", "longform"},
		{"Write an essay, step by step, in python", "longform"},
		{"Generate a concise title", "general"},
		{"대화 제목을 지어 줘", "general"},
	}
	r := ready(t, "")
	for _, tt := range tests {
		if got := labelled(t, r, last, false, tt.in); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.in, got, tt.want)
			continue
		}
		everyCut(t, r, last, tt.in, tt.want)
	}
}

func everyCut(t *testing.T, r *router, o nexus.Trial, text, want string) {
	t.Helper()
	if got := labelled(t, r, o, true, append(strings.Split(text, ""), "")...); got != labelled(t, r, o, true, text) {
		t.Fatalf("%q rune by rune: got %s", text, got)
	}
	for i := range text {
		if got := labelled(t, r, o, false, text[:i], text[i:]); got != want {
			t.Fatalf("%q cut at %d: got %s, want %s", text, i, got, want)
		}
	}
}

func TestBackground(t *testing.T) {
	r := ready(t, "")
	system := nexus.Trial{Role: nexus.System}
	tests := []struct {
		name  string
		trial nexus.Trial
		small bool
		in    string
		want  string
	}{
		{"asked for", last, true, "### Task:\nGenerate a concise, 3-5 word title in Korean", "background"},
		{"asked for in Korean", last, true, "이 대화의 제목을 지어 주세요", "background"},
		{"in the system message", system, true, "You write a title for this conversation.", "background"},
		{"not small", last, false, "대화 제목을 지어 줘", "general"},
		{"far behind", last, true, strings.Repeat("가", 100) + "대화 제목을 지어 줘", "general"},
		{"code in a system message says nothing", system, true, "You write python.", "general"},
		{"history", nexus.Trial{Role: nexus.User}, true, "python", "general"},
		{"tool", nexus.Trial{Role: nexus.Tool, LastUser: true, Channel: nexus.ToolArguments}, true, "python", "general"},
		{"reply", nexus.Trial{Role: nexus.Assistant, LastUser: true, Direction: nexus.ToCaller}, true, "python", "general"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := labelled(t, r, tt.trial, tt.small, tt.in); got != tt.want {
				t.Fatalf("got %s, want %s", got, tt.want)
			}
			for i := range tt.in {
				if got := labelled(t, r, tt.trial, tt.small, tt.in[:i], tt.in[i:]); got != tt.want {
					t.Fatalf("cut at %d: got %s, want %s", i, got, tt.want)
				}
			}
		})
	}
}

// TestKeeps: words do not take away what numbers gave that stands above.
func TestKeeps(t *testing.T) {
	r := ready(t, `{"reasoning":{"keywords":["사업성 검토"]}}`)
	host := nexus.TryHost(nexus.NewHost())
	host.Labels[labelProfile], host.Labels[labelBy] = "longform", "bytes"
	if _, err := nexus.Try(r.text, nexus.Trial{Role: nexus.User, LastUser: true, Context: context}, "python 사업성검토"); err != nil || host.Labels[labelProfile] != "longform" || host.Labels[labelBy] != "bytes" {
		t.Errorf("got %v, %v", host.Labels, err)
	}
	if got := labelled(t, r, last, false, "사업성검토 해줘"); got != "reasoning" {
		t.Errorf("own keyword: got %s", got)
	}
}

func TestConfigure(t *testing.T) {
	for config, want := range map[string]string{
		`x`: "JSON", `{"a":1}`: "unknown key a", `{"images":"x"}`: "must be a profile", `{"precedence":["code"]}`: "each profile once",
		`{"precedence":["general","code","longform","background","reasoning"]}`: "general last", `{"code":1}`: "must be an object",
		`{"code":{"min_bytes":1}}`: "unknown key min_bytes of code", `{"longform":{"min_bytes":-1}}`: "whole number", `{"code":{"tools":1}}`: "list of names",
		`{"code":{"keywords":["\u200b"]}}`: "no letters", `{"code":{"keywords":1}}`: "list of texts", `{"builtin":1}`: "true or false",
	} {
		r := defaults()
		if err := r.configure([]byte(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", config, err, want)
		}
	}
}

// TestRandomCuts holds the law against longer texts.
func TestRandomCuts(t *testing.T) {
	pieces := []string{"python", "step", " by ", "step", "단위", " ", "테스트", "\u1107\u1165", "\u1100\u1173", "\u11bc", "가", "대화", "제목", "을 지어", "```", "\u200b", "\n",
		strings.Repeat("아무 말 ", 30), strings.Repeat("x", 90), "보고서를 ", "작성", strings.Repeat(" ", 80), "ｃｏｄｅ", "c++", "일본 日本"}
	r := ready(t, "")
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 4000 {
		var text string
		for range 1 + rnd.IntN(14) {
			text += pieces[rnd.IntN(len(pieces))]
		}
		var cuts []string
		for rest := text; rest != ""; {
			n := min(len(rest), 1+rnd.IntN(40))
			for n < len(rest) && !utf8.RuneStart(rest[n]) {
				n++
			}
			cuts, rest = append(cuts, rest[:n]), rest[n:]
		}
		want, got := labelled(t, r, last, true, text), labelled(t, r, last, true, append(cuts, "")...)
		if got != want {
			t.Fatalf("%q: got %s, want %s", cuts, got, want)
		}
	}
}

func FuzzCuts(f *testing.F) {
	f.Add("Refactor 단계별로 \u1107\u1165\u1100\u1173 대화 제목", uint(3), uint(9))
	r := ready(f, "")
	f.Fuzz(func(t *testing.T, text string, a, b uint) {
		if !utf8.ValidString(text) || len(text) > 3000 {
			return
		}
		i, j := runeAt(text, a), runeAt(text, b)
		if i > j {
			i, j = j, i
		}
		want, got := labelled(t, r, last, true, text), labelled(t, r, last, true, text[:i], text[i:j], text[j:])
		if got != want {
			t.Fatalf("cut at %d and %d: got %s, want %s", i, j, got, want)
		}
	})
}

func runeAt(s string, n uint) int {
	i := int(n % uint(len(s)+1))
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	return i
}

// TestTextAllocatesNothing: of what Try itself allocates, a text that holds nothing adds nothing.
func TestTextAllocatesNothing(t *testing.T) {
	r := ready(t, "")
	text := strings.Repeat("회의록을 요약해 주세요. The theory of a constant step. ", 20)
	count := func(f func(*nexus.Text)) float64 {
		return testing.AllocsPerRun(50, func() {
			if _, err := nexus.Try(f, last, text); err != nil {
				t.Fatal(err)
			}
		})
	}
	if got, want := count(r.text), count(func(*nexus.Text) {}); got != want {
		t.Errorf("%v allocations, want the %v of Try", got, want)
	}
}

func BenchmarkText(b *testing.B) {
	english := strings.Repeat("The quick brown fox jumps over the lazy dog, and then it sleeps. ", 20)[:1024]
	korean := strings.Repeat("회의록을 요약해 주세요. 지난주 결정 사항과 다음 일정도 적어 주시면 됩니다. ", 20)[:1023]
	for name, text := range map[string]string{"english": english, "korean": korean} {
		b.Run(name, func(b *testing.B) {
			r := ready(b, "")
			nexus.TryHost(nexus.NewHost())
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := nexus.Try(r.text, last, text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
