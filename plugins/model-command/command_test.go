package main

import (
	"bytes"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

const config = `{"enabled": true, "providers": {"local": "pool-a", "cloud": "pool-b"}, "allow": {
	"key:boss": ["*"], "key:none": [], "tenant:acme": ["llama-*", "cloud,gpt-*"]}}`

var last = nexus.Trial{Role: nexus.User, LastUser: true, Context: 4, MaxHold: 520}

// An outcome is what came of a text.
type outcome struct{ text, model, pool, label, problem string }

func try(t testing.TB, config string, o nexus.Trial, facts map[nexus.Fact]string, pieces ...string) outcome {
	t.Helper()
	var c commander
	if err := c.configure([]byte(config)); err != nil {
		t.Fatal(err)
	}
	host := nexus.TryHost(nexus.NewHost())
	host.Facts = facts
	found, err := nexus.Try(c.text, o, pieces...)
	out := outcome{found.Text, host.Model, host.Pool, host.Labels[labelName], ""}
	if err != nil {
		out.text, out.problem = "", err.Error()
	}
	return out
}

func who(key, tenant string) map[nexus.Fact]string {
	return map[nexus.Fact]string{nexus.FactPrincipal: key, nexus.FactTenant: tenant}
}

func TestCommand(t *testing.T) {
	const no = "the plugin refused"
	acme := who("k1", "acme")
	tests := []struct {
		name, in string
		facts    map[nexus.Fact]string
		want     outcome
	}{
		{"model", "/model llama-3\n안녕하세요", acme, outcome{"안녕하세요", "llama-3", "", "llama-3", ""}},
		{"provider", "/model local,llama-3\r\nhi", acme, outcome{"hi", "llama-3", "pool-a", "llama-3", ""}},
		{"spaces", "/model \t local , llama-3  \nhi", acme, outcome{"hi", "llama-3", "pool-a", "llama-3", ""}},
		{"alone", "/model llama-3", acme, outcome{"", "llama-3", "", "llama-3", ""}},
		{"one line is taken", "/model llama-3\n/model llama-4\n", acme, outcome{"/model llama-4\n", "llama-3", "", "llama-3", ""}},
		{"pattern of both", "/model cloud,gpt-5\nhi", acme, outcome{"hi", "gpt-5", "pool-b", "gpt-5", ""}},
		{"pattern of both, no provider", "/model gpt-5\nhi", acme, outcome{problem: no}},
		{"pattern of both, other provider", "/model local,gpt-5\nhi", acme, outcome{problem: no}},
		{"unknown provider", "/model moon,llama-3\nhi", acme, outcome{problem: no}},
		{"key above tenant", "/model anything/at:all\nhi", who("boss", "acme"), outcome{"hi", "anything/at:all", "", "anything/at:all", ""}},
		{"key with nothing", "/model llama-3\nhi", who("none", "acme"), outcome{problem: no}},
		{"nothing configured", "/model llama-3\nhi", who("k1", "other"), outcome{"/model llama-3\nhi", "", "", "", ""}},
		{"malformed: nothing", "/model\nhi", acme, outcome{problem: no}},
		{"malformed: two words", "/model llama 3\nhi", acme, outcome{problem: no}},
		{"malformed: two commas", "/model a,b,c\nhi", acme, outcome{problem: no}},
		{"malformed: no provider", "/model ,b\nhi", acme, outcome{problem: no}},
		{"malformed: Hangul", "/model 라마\nhi", acme, outcome{problem: no}},
		{"malformed: too long", "/model " + strings.Repeat("x", 600) + "\nhi", acme, outcome{problem: no}},
		{"other word", "/models are nice", acme, outcome{"/models are nice", "", "", "none", ""}},
		{"not at the start", " /model llama-3\nhi", acme, outcome{" /model llama-3\nhi", "", "", "none", ""}},
		{"not on the first line", "hi\n/model llama-3", acme, outcome{"hi\n/model llama-3", "", "", "none", ""}},
		{"part of the word", "/mod", acme, outcome{"/mod", "", "", "none", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := try(t, config, last, tt.facts, tt.in); got != tt.want {
				t.Fatalf("got %+v, want %+v", got, tt.want)
			}
			for i := range tt.in {
				if got := try(t, config, last, tt.facts, tt.in[:i], tt.in[i:]); got != tt.want {
					t.Fatalf("cut at %d: got %+v, want %+v", i, got, tt.want)
				}
			}
			if got := try(t, config, last, tt.facts, append(strings.Split(tt.in, ""), "")...); got != tt.want {
				t.Fatalf("rune by rune: got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestElsewhere: only the last user message's own text is looked at.
func TestElsewhere(t *testing.T) {
	text := "/model llama-3\nhi"
	for name, o := range map[string]nexus.Trial{
		"history": {Role: nexus.User}, "system": {Role: nexus.System, LastUser: true}, "tool": {Role: nexus.Tool},
		"name": {Role: nexus.User, LastUser: true, Channel: nexus.Aside}, "reply": {Role: nexus.User, LastUser: true, Direction: nexus.ToCaller},
	} {
		if got := try(t, config, o, who("boss", ""), text); got != (outcome{text: text}) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	for _, c := range []string{``, `{}`, strings.Replace(config, "true", "false", 1)} {
		if got := try(t, c, last, who("boss", ""), text); got != (outcome{text: text}) {
			t.Errorf("off by %q: got %+v", c, got)
		}
	}
}

// TestSecondPart: a message's second text is not its start.
func TestSecondPart(t *testing.T) {
	var c commander
	if err := c.configure([]byte(config)); err != nil {
		t.Fatal(err)
	}
	host := nexus.TryHost(nexus.NewHost())
	host.Facts = who("boss", "")
	for _, text := range []string{"look at this", "/model x\nhi"} {
		if found, err := nexus.Try(c.text, last, text); err != nil || found.Text != text || host.Model != "" {
			t.Errorf("%q: got %+v, %v, model %q", text, found, err, host.Model)
		}
	}
}

func TestConfigure(t *testing.T) {
	for config, want := range map[string]string{
		`x`: "JSON", `{"on":true}`: "unknown key on", `{"enabled":1}`: "true or false", `{"allow":[]}`: "object of lists",
		`{"allow":{"bob":[]}}`: "bob is nobody", `{"allow":{"*":"a"}}`: "list of patterns", `{"providers":{"a b":"c"}}`: "without spaces",
		`{"providers":{"a":""}}`: "name of a pool", `{"providers":1}`: "object of pools",
	} {
		var c commander
		if err := c.configure([]byte(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", config, err, want)
		}
	}
}

// FuzzRead: a command is as long as its first line, and its names stand in it.
func FuzzRead(f *testing.F) {
	f.Add([]byte("/model a,b\nx"), uint(3))
	f.Add([]byte("/model\t"), uint(1))
	f.Fuzz(func(t *testing.T, b []byte, n uint) {
		c, state := Read(b, true)
		if state == Open {
			t.Fatal("open at the end")
		}
		if early, s := Read(b[:n%uint(len(b)+1)], false); s != Open && (s != state || s == Complete && early.End != c.End) {
			t.Fatalf("%q: first %v, then %v", b, s, state)
		}
		if state != Complete {
			return
		}
		line, _, _ := bytes.Cut(b, []byte("\n"))
		want := "/model" + string(c.Model)
		if c.Provider != nil {
			want = "/model" + string(c.Provider) + "," + string(c.Model)
		}
		got := strings.NewReplacer(" ", "", "\t", "", "\r", "").Replace(string(line))
		if got != want || c.End < len(line) || !utf8.Valid(c.Model) {
			t.Fatalf("%q: got %q, want %q", b, want, got)
		}
	})
}

// FuzzMatch compares with path.Match, where the two say the same.
func FuzzMatch(f *testing.F) {
	f.Add("gpt-*", "gpt-4")
	f.Add("*a*b", "aab")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern)+len(name) > 60 || strings.ContainsAny(pattern, "?[\\") || strings.Contains(name, "/") || !utf8.ValidString(pattern+name) {
			return
		}
		want, err := path.Match(pattern, name)
		if got := Match(pattern, []byte(name)); err == nil && got != want {
			t.Fatalf("%q on %q: got %v, want %v", pattern, name, got, want)
		}
	})
}

// TestTextAllocatesNothing: of what Try itself allocates, a message that is not the last of a user adds nothing.
func TestTextAllocatesNothing(t *testing.T) {
	c := commander{}
	if err := c.configure([]byte(`{"enabled": true, "allow": {"*": ["*"]}}`)); err != nil {
		t.Fatal(err)
	}
	nexus.TryHost(nexus.NewHost())
	for _, o := range []nexus.Trial{{Role: nexus.User}, {Role: nexus.User, LastUser: true}} {
		count := func(f func(*nexus.Text)) float64 {
			return testing.AllocsPerRun(50, func() {
				if _, err := nexus.Try(f, o, "What is the capital of Korea?"); err != nil {
					t.Fatal(err)
				}
			})
		}
		if got, want := count(c.text), count(func(*nexus.Text) {}); got != want {
			t.Errorf("last %t: %v allocations, want the %v of Try", o.LastUser, got, want)
		}
	}
}
