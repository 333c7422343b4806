package llm

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// readBodies is what a Python backend sees of bodies, one base64 line each.
const readBodies = `
import sys, json, base64
for line in sys.stdin:
    b = json.loads(base64.b64decode(line))
    cap = next((b[k] for k in ("max_completion_tokens", "max_tokens", "max_output_tokens") if b.get(k) is not None), -1)
    tools = [t["function"]["name"] for t in b.get("tools") or []]
    texts = [m["content"] for m in b["messages"] if isinstance(m["content"], str)]
    print(json.dumps([b["model"], bool(b.get("stream")), b.get("n") or 1, cap, b.get("user") or "", tools, texts, b.get("temperature")]))
`

// A5: of every body that is taken, a Python backend reads what the gateway read.
func TestParseRequestAgreesWithPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("NEXUS_E2E") != "" {
			t.Fatal("python3 is not installed")
		}
		t.Skip("SKIPPED: python3 is not installed, so no other parser was asked")
	}
	var in bytes.Buffer
	var want []string
	rnd := rand.New(rand.NewPCG(1, 2))
	tried := 0
	for ; len(want) < 2000 && tried < 100_000; tried++ {
		body := randomBody(rnd)
		var r Request
		if ParseRequest(Chat, body, &r) != nil {
			continue
		}
		in.WriteString(base64.StdEncoding.EncodeToString(body) + "\n")
		want = append(want, readBody(t, &r))
	}
	if len(want) < 2000 || tried < 3000 {
		t.Fatalf("%d of %d bodies were taken: the test has lost its point", len(want), tried)
	}
	cmd := exec.Command(python, "-c", readBodies)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("python3 does not run here: %v", err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		var got, ours any
		if json.Unmarshal([]byte(line), &got) != nil || json.Unmarshal([]byte(want[i]), &ours) != nil {
			t.Fatalf("not JSON: %s or %s", line, want[i])
		}
		if fmt.Sprint(got) != fmt.Sprint(ours) {
			t.Errorf("Python read %s, the gateway %s", line, want[i])
		}
	}
}

func readBody(t *testing.T, r *Request) string {
	texts := []string{}
	for _, x := range r.Texts {
		if x.Channel == Aside {
			continue
		}
		texts = append(texts, string(AppendText(nil, r.Body, x)))
	}
	var temperature any
	if r.HasTemp {
		temperature = r.Temperature
	}
	b, err := json.Marshal([]any{r.Model, r.Stream, r.N, r.MaxTokens, r.User, append([]string{}, r.Tools...), texts, temperature})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// randomBody puts together members in many spellings, some of them ambiguous.
func randomBody(rnd *rand.Rand) []byte {
	one := func(list ...string) string { return list[rnd.IntN(len(list))] }
	number := func() string {
		return one("1", "1", "2", "17", "9007199254740992", "1.0", "1e2", "-0", "0", "9223372036854775808", "null", `"1"`, "007")
	}
	members := []string{
		one(`"model"`, `"model"`, `"\u006dodel"`, `"mo\u0064el"`, `"Model"`) + one(":", " : ", ":\n") + one(`"m"`, `"한국/모델"`, `"\ud55c"`, `"a\"\\\/b"`, `"\ud83d\ude00"`, `"\ud83d"`, `null`, `5`),
		`"messages":[{"role":"user","content":` + one(`"안녕 \ud83d\ude00\n"`, `"x"`, `"\u0000\b\f"`, `"`+strings.Repeat("가", 20)+`"`, `""`, "\"\xff\"", `"\udc00"`) + `}]`,
	}
	for _, m := range []string{
		one(`"stream"`, `"ſtream"`, `"\u0073tream"`) + ":" + one("true", "false", "null", "1", `"true"`),
		one(`"n"`, `"N"`) + ":" + number(), one(`"max_tokens"`, `"max_to\u212aens"`) + ":" + number(),
		`"max_completion_tokens":` + number(), `"max_output_tokens":` + number(), `"user":` + one(`"u"`, `"유저"`, "null", "1"),
		`"temperature":` + one("0.1", "1", "1e-1", "2.50", "-0.0", "1e999", "null", "1e400", "NaN"),
		`"tools":[{"type":"function","function":{"name":` + one(`"f"`, `"f\u0031"`, `"f","name":"g"`) + `}}]`,
		`"model":"second"`, `"x":` + one(`{"model":"z"}`, `[1,2`, `{"a":1,"a":2}`, `1E+2`, `"\x"`),
	} {
		if rnd.IntN(5) == 0 {
			members = append(members, m)
		}
	}
	rnd.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return []byte(one("", " ", "\n") + "{" + strings.Join(members, one(",", " ,\t")) + "}" + one("", "", "\n", "x"))
}
