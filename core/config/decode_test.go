package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
)

// sample has a setting of every kind.
type sample struct {
	Server   listener           `yaml:"server" doc:"Where it listens."`
	Backends map[string]backend `yaml:"backends" doc:"Servers by name."`
	Plugins  []module           `yaml:"plugins" doc:"Plugins in order."`
	TLS      *tls               `yaml:"tls" doc:"Absent: plain text."`
	Ratio    float64            `yaml:"ratio" default:"0.5" doc:"A share."`
	Small    int8               `yaml:"small" default:"-3" doc:"A small number."`
	Count    uint16             `yaml:"count" doc:"A count."`
	Debug    bool               `yaml:"debug" default:"true" doc:"Whether to say more."`
	Kinds    []string           `yaml:"kinds" default:"chat,embeddings" enum:"chat,embeddings,rerank" doc:"What is served."`
	Labels   map[string]string  `yaml:"labels" doc:"Labels."`
	Free     any                `yaml:"free" doc:"Anything."`
	Limits   `yaml:",inline"`
	Skipped  string `yaml:"-"`
}

type listener struct {
	Listen  string        `yaml:"listen" default:"127.0.0.1:8080" doc:"The address."`
	MaxBody setting.Size  `yaml:"max_body" default:"32MiB" doc:"Largest body."`
	Drain   time.Duration `yaml:"drain" default:"5s" doc:"How long streams may end."`
	Mode    mode          `yaml:"mode" default:"closed" enum:"open,closed" doc:"The rule."`
}

type mode string

type backend struct {
	URL     string         `yaml:"url" doc:"Where it is."`
	Key     setting.Secret `yaml:"key" doc:"Its credential."`
	Weight  int            `yaml:"weight" default:"1" doc:"Its share."`
	Timeout time.Duration  `yaml:"timeout" default:"2s" doc:"How long."`
}

func (b *backend) Validate(p setting.Problems) {
	if b.URL == "" {
		p.Addf("url", "is required")
	}
	if b.Weight < 1 {
		p.Addf("weight", "must be at least 1, not %d", b.Weight)
	}
}

type module struct {
	Path   string         `yaml:"path" doc:"The module."`
	Config map[string]any `yaml:"config" doc:"Its own configuration."`
}

type tls struct {
	Cert string `yaml:"cert" doc:"The certificate."`
	Port *int   `yaml:"port" default:"443" doc:"The port."`
}

// Limits is inlined: its keys stand at the file's top level.
type Limits struct {
	Requests int64 `yaml:"requests" default:"10" doc:"Requests a minute."`
}

func (l Limits) Validate(p setting.Problems) {
	if l.Requests < 0 {
		p.Addf("requests", "is below nothing")
	}
}

func defaults() sample {
	return sample{
		Server: listener{Listen: "127.0.0.1:8080", MaxBody: 32 << 20, Drain: 5 * time.Second, Mode: "closed"},
		Ratio:  0.5, Small: -3, Debug: true, Kinds: []string{"chat", "embeddings"}, Limits: Limits{Requests: 10},
	}
}

func TestDecodeReads(t *testing.T) {
	t.Setenv("NEXUS_TEST_PORT", "9000")
	t.Setenv("NEXUS_TEST_EMPTY", "")
	t.Setenv("NEXUS_TEST_YAML", "{a: [b, c]}")
	t.Setenv("NEXUS_TEST_NESTED", "${NEXUS_TEST_PORT}")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "key"), "s3cret\r\n")
	port := 8443
	tests := []struct {
		name, in string
		want     func(*sample)
	}{
		{"defaults", "{}", func(*sample) {}},
		{"default of a present section", "server: {listen: ':1'}", func(s *sample) { s.Server.Listen = ":1" }},
		{"defaults in tables", "backends: {a: {url: http://a}}", func(s *sample) {
			s.Backends = map[string]backend{"a": {URL: "http://a", Weight: 1, Timeout: 2 * time.Second}}
		}},
		{"pointer", "tls: {cert: c}", func(s *sample) { s.TLS = &tls{Cert: "c", Port: new(443)} }},
		{"pointer to a scalar", "tls: {port: 8443}", func(s *sample) { s.TLS = &tls{Port: &port} }},
		{"inline", "requests: 7", func(s *sample) { s.Requests = 7 }},
		{"list replaces its default", "kinds: [rerank]", func(s *sample) { s.Kinds = []string{"rerank"} }},
		{"empty list", "kinds: []", func(s *sample) { s.Kinds = []string{} }},
		{"text that looks otherwise", "labels: {a: 1.10, b: true, c: no, d: 2024-01-01, e: '', f: 0x1F}", func(s *sample) {
			s.Labels = map[string]string{"a": "1.10", "b": "true", "c": "no", "d": "2024-01-01", "e": "", "f": "0x1F"}
		}},
		{"sizes and durations", "server: {max_body: 64KiB, drain: 1h30m}", func(s *sample) {
			s.Server.MaxBody, s.Server.Drain = 64<<10, 90*time.Minute
		}},
		{"size without a unit", "server: {max_body: 65536, drain: 0}", func(s *sample) {
			s.Server.MaxBody, s.Server.Drain = 64<<10, 0
		}},
		{"anything", "free: {a: [1, 2.5, x, true, null, 2024-01-01], b: {c: '1'}}", func(s *sample) {
			s.Free = map[string]any{"a": []any{int64(1), 2.5, "x", true, nil, "2024-01-01"}, "b": map[string]any{"c": "1"}}
		}},
		{"anchor", "backends: {a: &x {url: http://a}, b: *x}", func(s *sample) {
			b := backend{URL: "http://a", Weight: 1, Timeout: 2 * time.Second}
			s.Backends = map[string]backend{"a": b, "b": b}
		}},
		{"variable in a number", "count: ${NEXUS_TEST_PORT}", func(s *sample) { s.Count = 9000 }},
		{"variable in quotes", `count: "${NEXUS_TEST_PORT}"`, func(s *sample) { s.Count = 9000 }},
		{"variable in text", "labels: {a: 'x${NEXUS_TEST_PORT}y${NEXUS_TEST_PORT}'}", func(s *sample) {
			s.Labels = map[string]string{"a": "x9000y9000"}
		}},
		{"variable's default", "count: ${NEXUS_TEST_ABSENT:-12}", func(s *sample) { s.Count = 12 }},
		{"empty variable's default", "count: ${NEXUS_TEST_EMPTY:-12}", func(s *sample) { s.Count = 12 }},
		{"empty default", "labels: {a: '${NEXUS_TEST_ABSENT:-}'}", func(s *sample) { s.Labels = map[string]string{"a": ""} }},
		{"variable is never YAML", "free: ${NEXUS_TEST_YAML}", func(s *sample) { s.Free = "{a: [b, c]}" }},
		{"number for anyone stays text", "free: ${NEXUS_TEST_PORT}", func(s *sample) { s.Free = "9000" }},
		{"variable is not expanded again", "labels: {a: '${NEXUS_TEST_NESTED}'}", func(s *sample) {
			s.Labels = map[string]string{"a": "${NEXUS_TEST_PORT}"}
		}},
		{"escape", "labels: {a: '$${HOME} $HOME $$ $'}", func(s *sample) { s.Labels = map[string]string{"a": "${HOME} $HOME $$ $"} }},
		{"secret of a file", "backends: {a: {url: u, key: 'file:key'}}", func(s *sample) {
			s.Backends = map[string]backend{"a": {URL: "u", Key: setting.NewSecret("s3cret"), Weight: 1, Timeout: 2 * time.Second}}
		}},
		{"secret that may be missing", "backends: {a: {url: u, key: '${NEXUS_TEST_ABSENT:-}'}}", func(s *sample) {
			s.Backends = map[string]backend{"a": {URL: "u", Weight: 1, Timeout: 2 * time.Second}}
		}},
		{"file: is for secrets alone", "labels: {a: 'file:key'}", func(s *sample) { s.Labels = map[string]string{"a": "file:key"} }},
		{"byte order mark", "\uFEFFrequests: 7", func(s *sample) { s.Requests = 7 }},
		{"CRLF", "requests: 7\r\nratio: 1\r\n", func(s *sample) { s.Requests, s.Ratio = 7, 1 }},
		{"document marks", "---\nrequests: 7\n...\n", func(s *sample) { s.Requests = 7 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := defaults()
			tt.want(&want)
			got := sample{Ratio: 99, Skipped: "of before"}
			if _, err := Decode(filepath.Join(dir, "nexus.yaml"), []byte(tt.in), &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Setenv("NEXUS_TEST_SECRET", "sk-canary-1234567")
	t.Setenv("NEXUS_TEST_EMPTY", "")
	t.Setenv("NEXUS_TEST_FILE", "file:/etc/passwd")
	tests := []struct{ name, in, want string }{
		{"empty", "", "f: is empty; write {} to take every default"},
		{"only comments", "# nothing\n", "f: is empty; write {} to take every default"},
		{"null", "---\n", "f: is empty; write {} to take every default"},
		{"not a section", "[a]", "f:1:1: wants a section of keys, not a list"},
		{"unknown key", "server:\n  lisen: x", `f:2:3: server.lisen: unknown key; did you mean "listen"?`},
		{"unknown key in camel case", "server: {maxBody: 1}", `f:1:10: server.maxBody: unknown key; did you mean "max_body"?`},
		{"unknown key in a table", "backends:\n  gpu-1:\n    urll: x\n    url: y", `f:3:5: backends.gpu-1.urll: unknown key; did you mean "url"?`},
		{"unknown key, nothing near", "tls: {colour: red}", `f:1:7: tls.colour: unknown key; known here: cert, port`},
		{"unknown inline key", "request: 1", `f:1:1: request: unknown key; did you mean "requests"?`},
		{"skipped field", "skipped: x", `f:1:1: skipped: unknown key; known here: server, backends, plugins, tls, ratio, small, count, debug, kinds, labels, free, requests`},
		{"repeated key", "ratio: 1\nratio: 1", "f:2:1: ratio: stands twice in its section; first in line 1"},
		{"repeated key in a table", "labels: {a: 1, a: 2}", "f:1:16: labels.a: stands twice in its section; first in line 1"},
		{"repeated key in anything", "free: {a: 1, a: 2}", "f:1:14: free.a: stands twice in its section; first in line 1"},
		{"empty name", "labels: {'': 1}", "f:1:10: labels.: a name is empty"},
		{"null key", "labels: {~: 1}", "f:1:10: labels: a key must be plain text, not nothing"},
		{"complex key", "labels: {[a]: 1}", "f:1:10: labels: a key must be plain text, not a list"},
		{"section without value", "server:\nratio: 1", "f:1:8: server: has no value; write {} to take every default"},
		{"cut after a key", "plugins:\n- path: a\n- ", "f:3:2: plugins[1]: has no value; write {} to take every default"},
		{"scalar without value", "ratio:", "f:1:7: ratio: has no value; remove the key to take the default"},
		{"list for a scalar", "ratio: [1]", "f:1:8: ratio: wants a number, not a list"},
		{"scalar for a list", "kinds: chat", "f:1:8: kinds: wants a list, not a single value"},
		{"scalar for a section", "server: x", "f:1:9: server: wants a section of keys, not a single value"},
		{"quoted number", "count: '1'", "f:1:8: count: wants a whole number; take off the quotes"},
		{"not a number", "count: many", `f:1:8: count: "many" is not a whole number`},
		{"negative count", "count: -1", `f:1:8: count: -1 is below nothing`},
		{"fraction", "count: 1.5", `f:1:8: count: "1.5" is not a whole number`},
		{"octal", "count: 010", `f:1:8: count: "010" begins with a zero; write a decimal number without`},
		{"too great", "small: 128", "f:1:8: small: 128 is out of range"},
		{"not finite", "ratio: .inf", `f:1:8: ratio: ".inf" is not a number`},
		{"not finite in Go", "ratio: NaN", `f:1:8: ratio: "NaN" is not a number`},
		{"too great a float", "ratio: 1e999", `f:1:8: ratio: 1e999 is out of range`},
		{"not finite in anything", "free: [.nan]", `f:1:8: free[0]: ".nan" is not a number`},
		{"yes", "debug: yes", `f:1:8: debug: "yes" is neither true nor false`},
		{"no unit", "server: {drain: 5}", `f:1:17: server.drain: "5" has no unit; write 5s for seconds, 5ms for milliseconds`},
		{"negative duration", "server: {drain: -5s}", `f:1:17: server.drain: "-5s" is below nothing`},
		{"days", "server: {drain: 2d}", `f:1:17: server.drain: "2d" is not a duration; for days write hours: 48h`},
		{"not a duration", "server: {drain: soon}", `f:1:17: server.drain: "soon" is not a duration such as 500ms, 5s, 2m or 1h30m`},
		{"not a size", "server: {max_body: 5 elephants}", `f:1:20: server.max_body: "5 elephants" is not a size: write bytes with an optional unit, such as 65536, 64KiB or 32MiB`},
		{"enum", "server: {mode: opne}", `f:1:16: server.mode: "opne" is none of open, closed; did you mean "open"?`},
		{"enum in a list", "kinds: [chat, x]", `f:1:15: kinds[1]: "x" is none of chat, embeddings, rerank`},
		{"no such variable", "\nlabels: {a: '${NEXUS_TEST_ABSENT}'}", "f:2:13: labels.a: the environment has no NEXUS_TEST_ABSENT; set it, or write ${NEXUS_TEST_ABSENT:-default}"},
		{"open variable", "labels: {a: '${X'}", "f:1:13: labels.a: ${ is never closed; write $${ for the characters themselves"},
		{"not a variable", "labels: {a: '${a b}'}", "f:1:13: labels.a: ${a b} is not a variable; write ${NAME} or ${NAME:-default}, and $${ for the characters themselves"},
		{"secret in the wrong place", "count: ${NEXUS_TEST_SECRET}", "f:1:8: count: what ${NEXUS_TEST_SECRET} stands for is not a whole number"},
		{"secret in an enum", "server: {mode: '${NEXUS_TEST_SECRET}'}", "f:1:16: server.mode: what ${NEXUS_TEST_SECRET} stands for is not one of open, closed"},
		{"empty secret", "backends: {a: {url: x, key: '${NEXUS_TEST_EMPTY}'}}", "f:1:29: backends.a.key: ${NEXUS_TEST_EMPTY} is empty"},
		{"no such secret file", "backends: {a: {url: x, key: 'file:/no/such'}}", "f:1:29: backends.a.key: stat /no/such: no such file or directory"},
		{"secret of a device", "backends: {a: {url: x, key: 'file:/dev/zero'}}", "f:1:29: backends.a.key: /dev/zero is not a regular file"},
		{"two documents", "ratio: 1\n---\nratio: 2", "f:2: a second document begins here; a file holds one"},
		{"tab", "server:\n\tlisten: x", "f:2: found character that cannot start any token"},
		{"open bracket", "server: [\n", "f:1: did not find expected node content"},
		{"indentation", "server:\n  listen: x\n drain: 5s", "f:3: did not find expected key"},
		{"unknown anchor", "server: *x", "f:1: unknown anchor 'x' referenced"},
		{"open quote", "ratio: 1\nserver: {listen: \"x}\nsmall: 1\n", "f:2: found unexpected end of stream"},
		{"colon", "ratio: 1\nlabels:\n  a: b: c\nsmall: 1\n", "f:3: mapping values are not allowed in this context"},
		{"list ends wrongly", "ratio: 1\nkinds:\n- chat\n- chat\n-chat\nsmall: 1\n", "f:5: could not find expected ':'"},
		{"not UTF-8", "ratio: 1\nlabels: {a: \xff}", "f:2: is not UTF-8 text"},
		{"UTF-16", "\xff\xfea\x00", "f:1: is not UTF-8 text"},
		{"merge", "backends: {a: &x {url: u}, b: {<<: *x}}", "f:1:32: backends.b: merge keys (<<) are not read; write the keys out"},
		{"tag", "ratio: !secret x", "f:1:8: ratio: carries the tag !secret; tags are not read"},
		{"binary", "labels: {a: !!binary aGk=}", "f:1:13: labels.a: carries the tag !!binary; tags are not read"},
		{"alias of itself", "free: &x [*x]", "f:1:7: " + deep("free") + "is too deep or too long: a file holds at most 100000 values in 64 levels, aliases counted as what they stand for"},
		{"validation", "backends:\n  a:\n    weight: 0", "f:2:3: backends.a.url: is required\nf:3:13: backends.a.weight: must be at least 1, not 0"},
		{"inline validation", "requests: -1", "f:1:11: requests: is below nothing"},
		{"no consequence of what was not read", "backends: {a: {url: u, weight: x}}", `f:1:32: backends.a.weight: "x" is not a whole number`},
		{"all at once, in order", "ratio: x\nserver: {lisen: 1, drain: 1}\nbackends: {b: {}, a: {}}\nsmall: 1000",
			"f:1:8: ratio: \"x\" is not a number\n" +
				"f:2:10: server.lisen: unknown key; did you mean \"listen\"?\n" +
				"f:2:27: server.drain: \"1\" has no unit; write 1s for seconds, 1ms for milliseconds\n" +
				"f:3:12: backends.b.url: is required\nf:3:19: backends.a.url: is required\n" +
				"f:4:8: small: 1000 is out of range"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			source, err := Decode("f", []byte(tt.in), new(sample))
			var all *Error
			if !errors.As(err, &all) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			if strings.Contains(err.Error(), "sk-canary") {
				t.Error("a value of the environment is shown")
			}
			if source == nil {
				t.Error("no source")
			}
		})
	}
}

func deep(path string) string { return path + strings.Repeat("[0]", 63) + ": " }

func TestDecodeIsBounded(t *testing.T) {
	t.Setenv("NEXUS_TEST_LONG", strings.Repeat("x", 64<<10))
	bomb := "free:\n- &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		a := string(rune('0' + i))
		bomb += "- &a" + string(rune('1'+i)) + " [" + strings.Repeat("*a"+a+", ", 9) + "*a" + a + "]\n"
	}
	tests := []struct{ name, in, want string }{
		{"aliases", bomb, "is too deep or too long"},
		{"depth", "free: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "is too deep or too long"},
		{"depth of the parser", "free: " + strings.Repeat("[", 400_000), "exceeded max depth"},
		{"length", "ratio: 1 #" + strings.Repeat("x", maxFile), "the most is 1048576"},
		{"expansion", "labels: {a: '" + strings.Repeat("${NEXUS_TEST_LONG}", 70) + "'}", "longer than 4194304 bytes after expansion"},
		{"problems", strings.Repeat("x: 1\n", 5000), "and 900 more problems"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			_, err := Decode("f", []byte(tt.in), new(sample))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %.300v, want %s", err, tt.want)
			}
			if n := len(err.Error()); n > 32<<10 {
				t.Errorf("the error is %d bytes long", n)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// No file of the largest size keeps a reload waiting: not the parser, not the search for the line at fault.
func TestDecodeInTime(t *testing.T) {
	for _, unit := range []string{"? ", "[{},", "&a ", "- \n", "'", "a: b\n", "{a: ", "a: |\n", "- [\n", "\t", "---\n", "\\", "a: &x 1\nb: *x\n", "- # c\n", "${"} {
		for _, before := range []string{"", "free:\n- "} {
			start := time.Now()
			_, _ = Decode("f", []byte(before+strings.Repeat(unit, (maxFile-20)/len(unit))), new(sample))
			if took := time.Since(start); took > 10*time.Second { // a second on an idle machine
				t.Errorf("%q and many %q took %v", before, unit, took)
			}
		}
	}
}

func TestSecretOfAVariableIsNoPath(t *testing.T) {
	t.Setenv("NEXUS_TEST_FILE", "file:/etc/hostname")
	var s sample
	source, err := Decode("f", []byte("backends: {a: {url: x, key: '${NEXUS_TEST_FILE}'}}"), &s)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Backends["a"].Key.Reveal(); got != "file:/etc/hostname" {
		t.Errorf("got %q", got)
	}
	if len(source.Files()) > 0 {
		t.Errorf("read %q", source.Files())
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "empty"), "\n")
	write(t, filepath.Join(dir, "long"), strings.Repeat("x", maxSecret+1))
	write(t, filepath.Join(dir, "good"), " inner space \n")
	for file, want := range map[string]string{"empty": "is empty", "long": "longer than 65536", "": "not a regular file"} {
		_, err := Decode(filepath.Join(dir, "f"), []byte("backends: {a: {url: x, key: 'file:"+file+"'}}"), new(sample))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", file, err, want)
		}
	}
	var s sample
	source, err := Decode("f", []byte("backends: {a: {url: x, key: 'file:"+dir+"/good'}}"), &s)
	if err != nil || s.Backends["a"].Key.Reveal() != " inner space " {
		t.Errorf("got %q, %v", s.Backends["a"].Key.Reveal(), err)
	}
	if got := source.Files(); len(got) != 1 || got[0] != filepath.Join(dir, "good") {
		t.Errorf("got files %q", got)
	}
}

func TestLocate(t *testing.T) {
	t.Setenv("NEXUS_TEST_SECRET", `sk-"canary"-1`)
	source, err := Decode("dir/nexus.yaml", []byte("plugins:\n  - path: a\n  - path: ${NEXUS_TEST_SECRET}\n"), new(sample))
	if err != nil {
		t.Fatal(err)
	}
	p := setting.NewProblems()
	if err := source.Locate(p); err != nil {
		t.Errorf("no problems: got %v", err)
	}
	p.Addf("plugins[1].path", "%q is not Wasm", `sk-"canary"-1`)
	p.Addf("plugins[0].config.x", "is missing")
	p.Addf("server.listen", "is taken")
	want := `dir/nexus.yaml: server.listen: is taken
dir/nexus.yaml:2:5: plugins[0].config.x: is missing
dir/nexus.yaml:3:11: plugins[1].path: "${NEXUS_TEST_SECRET}" is not Wasm`
	if got := source.Locate(p); got == nil || got.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", got, want)
	}
}

// A keys file is a list without a section around it.
func TestDecodeList(t *testing.T) {
	var list []backend
	if _, err := Decode("f", []byte("- url: a\n- {url: b, weight: 2}\n"), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].Weight != 1 || list[1].Weight != 2 {
		t.Errorf("got %+v", list)
	}
	_, err := Decode("f", []byte("- url: a\n- {urll: b}\n"), &list)
	if want := "f:2:3: [1].url: is required\nf:2:4: [1].urll: unknown key; did you mean \"url\"?"; err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if _, err := Decode("f", nil, &list); err == nil || err.Error() != "f: is empty; write [] for an empty list" {
		t.Errorf("got %v", err)
	}
}

func TestDefaultsThatDoNotParse(t *testing.T) {
	type bad struct {
		N int `yaml:"n" default:"many"`
	}
	_, err := Decode("f", []byte("{}"), new(bad))
	if err == nil || !strings.Contains(err.Error(), `the default of n: "many" is not a whole number`) {
		t.Errorf("got %v", err)
	}
	type unreadable struct {
		C chan int `yaml:"c"`
	}
	_, err = Decode("f", []byte("c: 1"), new(unreadable))
	if err == nil || !strings.Contains(err.Error(), "no setting can be of type chan int") {
		t.Errorf("got %v", err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
