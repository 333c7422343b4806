package llm

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppendError(t *testing.T) {
	got := string(AppendError([]byte("x"), APIError{Message: "안 \"됨\"", Type: "invalid_request_error", Param: "model", Code: "model_not_found"}))
	if want := `x{"error":{"message":"안 \"됨\"","type":"invalid_request_error","param":"model","code":"model_not_found"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got = string(AppendError(nil, APIError{Message: "m", Type: "t"}))
	if want := `{"error":{"message":"m","type":"t","param":null,"code":null}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestReadError(t *testing.T) {
	tests := []struct {
		name, body string
		want       APIError
		ok         bool
	}{
		{"vLLM", `{"error":{"message":"The model ` + "`x`" + ` does not exist.","type":"NotFoundError","param":"model","code":404}}`, APIError{"The model `x` does not exist.", "NotFoundError", "model", "404"}, true},
		{"OpenAI", `{"error":{"message":"안 됨","type":"invalid_request_error","param":null,"code":"x"}}`, APIError{"안 됨", "invalid_request_error", "", "x"}, true},
		{"SGLang flat", `{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}`, APIError{"too long", "BadRequestError", "", "400"}, true},
		{"SGLang in a stream", `{"error":{"object":"error","message":"m","type":"INTERNAL_SERVER_ERROR","param":null,"code":500}}`, APIError{"m", "INTERNAL_SERVER_ERROR", "", "500"}, true},
		{"SGLang native", `{"error":{"message":"m"}}`, APIError{Message: "m"}, true},
		{"vLLM unauthorized", `{"error":"Unauthorized"}`, APIError{Message: "Unauthorized"}, true},
		{"FastAPI", `{"detail":"Not Found"}`, APIError{Message: "Not Found"}, true},
		{"FastAPI validation", `{"detail":[{"type":"missing","loc":["body","x"],"msg":"Field required"},{"msg":"second"}]}`, APIError{Message: "Field required", Type: "missing"}, true},
		{"responses event", `{"type":"error","code":"server_error","message":"m\u0021","param":null}`, APIError{Message: "m!", Type: "error", Code: "server_error"}, true},
		{"no message", `{"error":{"type":"x"}}`, APIError{Type: "x"}, false},
		{"null", `{"error":null}`, APIError{}, false},
		{"answer", `{"choices":[]}`, APIError{}, false},
		{"HTML", `<html>`, APIError{}, false},
		{"empty", ``, APIError{}, false},
		{"array", `["x"]`, APIError{}, false},
		{"cut off", `{"error":{"message":"m"`, APIError{Message: "m"}, false},
		{"garbage behind", `{"error":"m"} x`, APIError{Message: "m"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, ok := ReadError([]byte(tt.body)); got != tt.want || ok != tt.ok {
				t.Errorf("got %+v, %v; want %+v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestAppendString(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"empty", "", `""`},
		{"plain", "a<b>&c/", `"a<b>&c/"`},
		{"specials", "\"\\\n\r\t\b\x00\x1f\x7f", "\"\\\"\\\\\\n\\r\\t\\u0008\\u0000\\u001f\x7f\""},
		{"Korean and emoji", "한국 😀\u2028", "\"한국 😀\u2028\""},
		{"invalid", "a\xffb\xed\x95", "\"a\ufffdb\ufffd\ufffd\""},
		{"surrogate", "\xed\xa0\x80", "\"\ufffd\ufffd\ufffd\""},
	}
	for _, tt := range tests {
		if got := string(AppendString([]byte("x"), tt.in)); got != "x"+tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// FuzzString: what is appended is a JSON string that encoding/json and AppendText read back alike.
func FuzzString(f *testing.F) {
	f.Add("한국 😀 \"\\\n\xff")
	f.Fuzz(func(t *testing.T, s string) {
		b := AppendString(nil, s)
		var got string
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		var want strings.Builder // byte for byte, as AppendString promises
		for i := 0; i < len(s); {
			r, size := utf8.DecodeRuneInString(s[i:])
			want.WriteRune(r)
			i += size
		}
		if got != want.String() {
			t.Fatalf("got %q, want %q", got, want.String())
		}
		if again := string(AppendText(nil, b, Text{At: Span{1, len(b) - 1}})); again != got {
			t.Fatalf("got %q, want %q", again, got)
		}
	})
}
