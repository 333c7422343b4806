package mock

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
)

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
