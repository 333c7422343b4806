package mock

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestRefusals(t *testing.T) {
	const chat = "/v1/chat/completions"
	tests := []struct {
		name, path, body string
		header           []string
		vllm, sglang     int
	}{
		{"well", chat, hello, nil, 200, 200},
		{"unknown model", chat, strings.Replace(hello, `"mock"`, `"other"`, 1), nil, 404, 200},
		{"bad JSON", chat, `{"model":`, nil, 400, 400},
		{"wrong type", chat, `{"model":"mock","messages":7}`, nil, 400, 400},
		{"no messages", chat, `{"model":"mock","messages":[]}`, nil, 400, 400},
		{"content type", chat, hello, []string{"Content-Type", "text/plain"}, 400, 400},
		{"empty tools", chat, with(hello, `"tools":[]`), nil, 400, 400},
		{"stream options without stream", chat, with(hello, `"stream_options":{"include_usage":true}`), nil, 400, 400},
		{"both prompt flags", chat, with(hello, `"continue_final_message":true,"add_generation_prompt":true`), nil, 400, 200},
		{"n of none", chat, with(hello, `"n":0`), nil, 400, 400},
		{"n of many", chat, with(hello, `"n":100000`), nil, 400, 400},
		{"max_tokens of none", chat, with(hello, `"max_tokens":0`), nil, 400, 400},
		{"unknown fault", chat, hello, []string{"x-mock-fault", "nonsense"}, 400, 400},
		{"unknown word", chat, strings.Replace(hello, "hello", "[[mock nonsense=1]]", 1), nil, 400, 400},
		{"no prompt", "/v1/completions", `{"model":"mock"}`, nil, 400, 400},
		{"no input", "/v1/embeddings", `{"model":"mock"}`, nil, 400, 400},
		{"no documents", "/v1/rerank", `{"model":"mock","query":"x"}`, nil, 400, 400},
		{"uneven texts", "/v1/score", `{"model":"mock","text_1":["a","b"],"text_2":["a"]}`, nil, 400, 400},
		{"no such path", "/v1/none", hello, nil, 404, 404},
		{"wrong method", "/v1/models", hello, nil, 405, 405},
	}
	for _, kind := range []Kind{VLLM, SGLang} {
		_, url := start(t, Options{Kind: kind})
		for _, tt := range tests {
			want := tt.vllm
			if kind == SGLang {
				want = tt.sglang
			}
			resp, body, err := ask(t, url+tt.path, tt.body, tt.header...)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != want {
				t.Errorf("%s, %s: status %d, want %d: %s", kind, tt.name, resp.StatusCode, want, body)
			}
			if !json.Valid([]byte(body)) {
				t.Errorf("%s, %s: no JSON: %s", kind, tt.name, body)
			}
			if want == 400 && (strings.HasPrefix(body, `{"error":{`) != (kind == VLLM) || strings.HasPrefix(body, `{"object":"error"`) != (kind == SGLang)) {
				t.Errorf("%s, %s: not the engine's envelope: %s", kind, tt.name, body)
			}
		}
	}
}

func TestStreamShapes(t *testing.T) {
	tools := `"tools":[{"type":"function","function":{"name":"weather","parameters":{"properties":{"city":{},"day":{}}}}}]`
	tests := []struct {
		name, members string
		check         func(t *testing.T, got told, raw string)
	}{
		{"role first, usage absent", ``, func(t *testing.T, got told, raw string) {
			if got.chunks[0].Choices[0].Delta.Role != "assistant" || strings.Contains(raw, `"usage"`) {
				t.Error(raw)
			}
		}},
		{"continuous usage", `"stream_options":{"include_usage":true,"continuous_usage_stats":true}`, func(t *testing.T, got told, raw string) {
			for i, c := range got.chunks {
				if c.Usage == nil || c.Usage.Completion != min(i, 12) {
					t.Errorf("chunk %d has usage %+v", i, c.Usage)
				}
			}
		}},
		{"max_tokens", `"max_tokens":5`, func(t *testing.T, got told, raw string) {
			last := got.chunks[len(got.chunks)-1].Choices[0]
			if got.finish != "length" || last.Delta.Content == "" || len(got.chunks) != 1+5 {
				t.Errorf("finish %q in the last of %d chunks, %+v", got.finish, len(got.chunks), last)
			}
		}},
		{"required tool", tools + `,"tool_choice":"required"`, func(t *testing.T, got told, raw string) {
			var args map[string]string
			if err := json.Unmarshal([]byte(got.args), &args); err != nil || args["city"] == "" || got.finish != "tool_calls" || got.text != "" {
				t.Errorf("arguments %s: %v, finish %q", got.args, err, got.finish)
			}
		}},
		{"named tool", tools + `,"tool_choice":{"type":"function","function":{"name":"weather"}}`, func(t *testing.T, got told, raw string) {
			if got.args == "" || got.finish != "stop" {
				t.Errorf("arguments %q, finish %q", got.args, got.finish)
			}
		}},
		{"tool by directive", tools + `,"user":"[[mock call=weather]]"`, func(t *testing.T, got told, raw string) {
			if !strings.HasPrefix(got.args, `{"city": "`) || got.finish != "tool_calls" {
				t.Errorf("arguments %q, finish %q", got.args, got.finish)
			}
		}},
		{"tool not asked", tools, func(t *testing.T, got told, raw string) {
			if got.args != "" || got.text == "" {
				t.Errorf("arguments %q", got.args)
			}
		}},
		{"n", `"n":3`, func(t *testing.T, got told, raw string) {
			var seen [3]string
			for _, c := range got.chunks {
				for _, ch := range c.Choices {
					seen[ch.Index] += ch.Delta.Content
				}
			}
			if seen[0] == "" || seen[0] == seen[1] || seen[1] == seen[2] {
				t.Errorf("choices %q", seen)
			}
			if got.chunks[3].Choices[0].Index == got.chunks[4].Choices[0].Index {
				t.Error("choices do not take turns")
			}
		}},
	}
	_, url := start(t, Options{Tokens: 12})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := with(hello, `"stream":true`)
			if tt.members != "" {
				body = with(body, tt.members)
			}
			resp, raw, err := ask(t, url+"/v1/chat/completions", body)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("%v: %v %s", err, resp, raw)
			}
			tt.check(t, tell(t, raw), raw)
		})
	}
}

func TestReasoningField(t *testing.T) {
	for kind, field := range map[Kind]string{VLLM: `"reasoning":"`, SGLang: `"reasoning_content":"`} {
		_, url := start(t, Options{Kind: kind, Models: []string{"mock-think"}, Think: 5, Tokens: 6})
		body := strings.Replace(hello, `"mock"`, `"mock-think"`, 1)
		_, raw, _ := ask(t, url+"/v1/chat/completions", with(body, `"stream":true`))
		_, whole, _ := ask(t, url+"/v1/chat/completions", body)
		if strings.Count(raw, field) != 5 || strings.Count(whole, field) != 1 || tell(t, raw).text == "" {
			t.Errorf("%s: no 5 pieces and one whole of %s in %s\n%s", kind, field, raw, whole)
		}
		_, off, _ := ask(t, url+"/v1/chat/completions", with(body, `"chat_template_kwargs":{"enable_thinking":false}`))
		if strings.Contains(off, field) {
			t.Errorf("%s: it thinks although told not to", kind)
		}
	}
}

func TestRequestID(t *testing.T) {
	for _, echoed := range []bool{false, true} {
		_, url := start(t, Options{RequestIDs: echoed})
		resp, body, err := ask(t, url+"/v1/chat/completions", hello, "X-Request-Id", "abc")
		if err != nil || !strings.Contains(body, `"id":"chatcmpl-abc"`) || (resp.Header.Get("X-Request-Id") == "abc") != echoed {
			t.Errorf("%v %v %s", err, resp, body)
		}
	}
}

func TestManyPorts(t *testing.T) {
	s, _ := start(t, Options{})
	for range 3 {
		p, err := s.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := ask(t, p.URL+"/v1/chat/completions", hello); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Listen("nowhere:-1"); err == nil {
		t.Error("an impossible address was listened on")
	}
	if got := s.Stats().Done; got != 3 {
		t.Errorf("%d answered, want 3", got)
	}
}

func TestNoPrefillFault(t *testing.T) {
	_, url := start(t, Options{Script: "fault=no-prefill"})
	resp, body, err := ask(t, url+"/v1/chat/completions", `{"model":"mock","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"so"}]}`)
	if err != nil || resp.StatusCode != 400 || !strings.Contains(body, "prefill") {
		t.Errorf("%v %v %s", err, resp, body)
	}
}

func TestRunServesUntilTheEnd(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := false
	err = s.Run(ctx, []string{"127.0.0.1:0", "127.0.0.1:0"}, func(addrs []string) {
		for _, a := range addrs {
			resp, err := http.Get("http://" + a + "/health")
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("%v %v", resp, err)
				continue
			}
			resp.Body.Close()
			asked = true
		}
		cancel()
	})
	if err != nil || !asked {
		t.Errorf("Run: %v, asked %v", err, asked)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{{Kind: "triton"}, {Script: "tokens=many"}, {Script: "fault=die-after"}, {Script: "pace=-1s"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func TestStopStringCutsTheAnswer(t *testing.T) {
	_, url := start(t, Options{})
	_, raw, _ := ask(t, url+"/v1/chat/completions", with(hello, `"stream":true`))
	text := []rune(tell(t, raw).text)
	stop := string(text[20:23])
	want, _, _ := strings.Cut(string(text), stop)
	_, raw, _ = ask(t, url+"/v1/chat/completions", with(hello, `"stream":true,"stop":["nowhere",`+jsonOf(stop)+`]`))
	if got := tell(t, raw); got.text != want || got.finish != "stop" || !strings.Contains(raw, `"stop_reason":`+jsonOf(stop)) {
		t.Errorf("got %q (%s), want %q before %q", got.text, got.finish, want, stop)
	}
}

func TestEchoAndDirectives(t *testing.T) {
	s, url := start(t, Options{Models: []string{"mock", "mock-echo"}})
	const said = "call 010-1234-5678, 주민 900101-1234568 🎉\n\"bye\""
	body := `{"model":"mock-echo","stream":true,"messages":[{"role":"user","content":[{"type":"text","text":` + jsonOf(said) + `}]}]}`
	_, raw, _ := ask(t, url+"/v1/chat/completions", body)
	if got := tell(t, raw); got.text != said || len(got.chunks) < 15 {
		t.Errorf("echo of %q in %d chunks is %q", said, len(got.chunks), got.text)
	}
	prompt := strings.Replace(with(hello, `"stream":true`), "hello", "[[mock tokens=7 per=2]]", 1)
	count := func(header ...string) int {
		_, raw, _ := ask(t, url+"/v1/chat/completions", with(prompt, `"stream_options":{"include_usage":true}`), header...)
		got := tell(t, raw)
		return got.chunks[len(got.chunks)-1].Usage.Completion
	}
	if got := count(); got != 7 {
		t.Errorf("%d tokens by the prompt, want 7", got)
	}
	if got := count("x-mock-tokens", "3"); got != 3 {
		t.Errorf("%d tokens by the header, want 3", got)
	}
	if err := s.SetScript("fault=status=503;once"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{503, 200, 200} {
		if resp, _, _ := ask(t, url+"/v1/chat/completions", hello); resp.StatusCode != want {
			t.Errorf("call %d with a fault marked once: status %d, want %d", i, resp.StatusCode, want)
		}
	}
	if resp, _, _ := ask(t, url+"/mock/script", "fault=nonsense"); resp.StatusCode != 400 {
		t.Errorf("a bad script got %d, want 400", resp.StatusCode)
	}
	if resp, _, _ := ask(t, url+"/mock/script", "tokens=2"); resp.StatusCode != 200 {
		t.Errorf("a good script got %d, want 200", resp.StatusCode)
	}
}

func TestFreshFaultSparesContinuations(t *testing.T) {
	_, url := start(t, Options{Script: "fault=die-after=3;fresh"})
	if _, _, err := ask(t, url+"/v1/chat/completions", with(hello, `"stream":true`)); err == nil {
		t.Error("the first request was spared")
	}
	body := `{"model":"mock","stream":true,"continue_final_message":true,"add_generation_prompt":false,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"so"}]}`
	if _, _, err := ask(t, url+"/v1/chat/completions", body); err != nil {
		t.Errorf("the continuation died: %v", err)
	}
}

func TestResponses(t *testing.T) {
	_, url := start(t, Options{Tokens: 6})
	const body = `{"model":"mock","instructions":"be brief","input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]}]}`
	_, whole, err := ask(t, url+"/v1/responses", body)
	if err != nil {
		t.Fatal(err)
	}
	var w struct {
		Status string
		Output []struct{ Content []struct{ Text string } }
		Usage  struct {
			Output int `json:"output_tokens"`
		}
	}
	if err := json.Unmarshal([]byte(whole), &w); err != nil || w.Status != "completed" || w.Usage.Output != 6 {
		t.Fatalf("%v in %s", err, whole)
	}
	_, raw, _ := ask(t, url+"/v1/responses", with(body, `"stream":true`))
	var deltas, last string
	for line := range strings.SplitSeq(raw, "\n") {
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var e struct{ Type, Delta string }
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		deltas, last = deltas+e.Delta, e.Type
	}
	if deltas != w.Output[0].Content[0].Text || last != "response.completed" || strings.Contains(raw, "[DONE]") {
		t.Errorf("deltas %q end with %s, whole %s", deltas, last, whole)
	}
}

func TestVectors(t *testing.T) {
	_, url := start(t, Options{})
	var floats struct {
		Data []struct{ Embedding []float32 }
	}
	var coded struct{ Data []struct{ Embedding string } }
	_, body, _ := ask(t, url+"/v1/embeddings", `{"model":"mock","input":["하나","two"]}`)
	if err := json.Unmarshal([]byte(body), &floats); err != nil || len(floats.Data) != 2 {
		t.Fatalf("%v in %s", err, body)
	}
	_, body, _ = ask(t, url+"/v1/embeddings", `{"model":"mock","input":["하나","two"],"encoding_format":"base64"}`)
	if err := json.Unmarshal([]byte(body), &coded); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	for i, d := range coded.Data {
		raw, err := base64.StdEncoding.DecodeString(d.Embedding)
		if err != nil || len(raw) != 4*dimensions {
			t.Fatalf("%d bytes, %v", len(raw), err)
		}
		for j := range dimensions {
			if got := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*j:])); got != floats.Data[i].Embedding[j] {
				t.Errorf("vector %d at %d: %v by base64, %v by floats", i, j, got, floats.Data[i].Embedding[j])
			}
		}
	}
	if floats.Data[0].Embedding[0] == floats.Data[1].Embedding[0] {
		t.Error("two texts have one vector")
	}
}

func TestOtherEndpoints(t *testing.T) {
	s, url := start(t, Options{Kind: SGLang, Record: 2})
	tests := []struct{ path, body, want string }{
		{"/v1/rerank", `{"query":"b","documents":["a","b"],"top_n":1}`, `"index":1,"document":{"text":"b"},"relevance_score":1}]`},
		{"/v1/score", `{"text_1":"a","text_2":["a","b"]}`, `{"index":0,"object":"score","score":1}`},
		{"/tokenize", `{"prompt":" the the"}`, `"count":2,"max_model_len":1048576,"tokens":[100,100]`},
	}
	for _, tt := range tests {
		if _, body, err := ask(t, url+tt.path, tt.body); err != nil || !strings.Contains(body, tt.want) || !json.Valid([]byte(body)) {
			t.Errorf("%s: %v %s, want %s", tt.path, err, body, tt.want)
		}
	}
	if got := s.Requests(); len(got) != 2 || got[1].Path != "/tokenize" || got[1].Body != tests[2].body || got[1].Header.Get("Content-Type") == "" {
		t.Errorf("recorded %+v", got)
	}
	for path, want := range map[string]string{"/metrics": "sglang:num_running_reqs{", "/v1/loads": `"num_running_reqs":0`, "/v1/models": `"id":"mock"`, "/mock/stats": `"requests":3`, "/mock/requests": "/tokenize", "/health": ""} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(string(b), want) {
			t.Errorf("%s: %d %s, want %s", path, resp.StatusCode, b, want)
		}
	}
}

// eventually waits until ok, within a second.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 200 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("never: " + what)
}

func TestAbortIsSeen(t *testing.T) {
	s, url := start(t, Options{Pace: 5 * time.Millisecond, Tokens: 10000})
	for i, body := range []string{with(hello, `"stream":true`), hello, with(hello, `"stream":true,"x":"[[mock fault=hang]]"`), with(hello, `"stream":true,"x":"[[mock fault=stall-after=1]]"`)} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		eventually(t, "running", func() bool { return s.Stats().Running == 1 })
		time.Sleep(10 * time.Millisecond)
		conn.Close()
		eventually(t, fmt.Sprintf("abort %d counted", i), func() bool { return s.Stats().Aborted == int64(i+1) && s.Stats().Running == 0 })
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	_, url := start(t, Options{KeepAlive: 50 * time.Millisecond})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
	began := time.Now()
	_ = conn.SetReadDeadline(began.Add(2 * time.Second))
	if _, err := io.Copy(io.Discard, bufio.NewReader(conn)); err != nil || time.Since(began) < 40*time.Millisecond {
		t.Errorf("closed after %v: %v", time.Since(began), err)
	}
}

func TestPaceAndPrefill(t *testing.T) {
	_, url := start(t, Options{Tokens: 5, Pace: 10 * time.Millisecond, Prefill: 200 * time.Microsecond})
	long := strings.Replace(hello, "hello", strings.Repeat("abc", 200), 1)
	for _, body := range []string{long, with(long, `"stream":true`)} {
		began := time.Now()
		if _, _, err := ask(t, url+"/v1/chat/completions", body); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 40*time.Millisecond {
			t.Errorf("took %v, less than four waits of 10ms", took)
		}
	}
	_, raw, _ := ask(t, url+"/v1/chat/completions", long)
	if !strings.Contains(raw, `"cached_tokens":192`) {
		t.Errorf("the third reading of one prompt has no 192 cached ids: %s", raw)
	}
}

func TestSlotsAndQueue(t *testing.T) {
	s, url := start(t, Options{Slots: 1, Queue: 1, Tokens: 20, Pace: 10 * time.Millisecond})
	statuses := make(chan int, 6)
	for range cap(statuses) {
		go func() {
			resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(hello))
			if err != nil {
				statuses <- 0
				return
			}
			resp.Body.Close()
			statuses <- resp.StatusCode
		}()
	}
	count := map[int]int{}
	for range cap(statuses) {
		count[<-statuses]++
	}
	if count[200] < 1 || count[200] > 3 || count[200]+count[503] != cap(statuses) {
		t.Errorf("statuses %v, want one or two 200 and else 503", count)
	}
	if st := s.Stats(); st.Running != 0 || st.Waiting != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestKillResetsConnections(t *testing.T) {
	s, err := New(Options{Pace: 5 * time.Millisecond, Tokens: 1000})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		resp, err := http.Post(p.URL+"/v1/chat/completions", "application/json", strings.NewReader(with(hello, `"stream":true`)))
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		ended <- err
	}()
	eventually(t, "running", func() bool { return s.Stats().Running == 1 })
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the stream ended well")
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Errorf("Close twice: %v", err)
	}
}

func FuzzFault(f *testing.F) {
	for _, s := range []string{"die-after=5", "status=429;retry-after=2;once=a", "slow-drip", "=;;", "big-event=99999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseFault(text)
		if err != nil {
			return
		}
		b, err := ParseFault(";" + text + ";")
		if a.text, b.text = "", ""; err != nil || fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%q reads as %+v, with empty parts as %+v, %v", text, a, b, err)
		}
	})
}
