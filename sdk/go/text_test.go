package nexus

import (
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/sdk/abi"
)

func TestTry(t *testing.T) {
	star := func(t *Text) {
		for i, c := range t.Bytes() {
			if c == 'x' {
				t.Replace(i, i+1, "**", 1)
			}
		}
		if b := t.Bytes(); !t.Final() && len(b) > 0 && b[len(b)-1] == 'y' {
			t.Hold(1)
		}
	}
	found, err := Try(star, Trial{}, "ax", "by", "y", "x")
	if err != nil || found.Text != "a**byy**" || len(found.Kinds) != 2 || found.Held != 1 {
		t.Errorf("got %+v, %v", found, err)
	}
}

func TestTryCuts(t *testing.T) {
	word := func(holds bool) func(*Text) {
		return func(t *Text) {
			b := t.Bytes()
			for i := range b {
				switch {
				case strings.HasPrefix(string(b[i:]), "ab"):
					t.Replace(i, i+2, "x", 1)
				case holds && !t.Final() && string(b[i:]) == "a":
					t.Hold(1)
				}
			}
		}
	}
	if found, err := TryCuts(word(true), Trial{}, "aab가ab"); err != nil || found.Text != "ax가x" {
		t.Errorf("got %+v, %v", found, err)
	}
	if _, err := TryCuts(word(false), Trial{}, "aab"); err == nil || !strings.Contains(err.Error(), `cut into ["aa" "b"]`) {
		t.Errorf("got %v", err)
	}
	last := func(t *Text) {
		if !t.LastUser() || len(t.Bytes()) == 0 {
			t.Fail("asked about nothing, or nobody's")
		}
	}
	if _, err := Try(last, Trial{LastUser: true}, "a", ""); err != nil {
		t.Error(err)
	}
}

func TestTryRefuses(t *testing.T) {
	tests := []struct {
		name string
		f    func(*Text)
		want string
	}{
		{"held at the end", func(t *Text) { t.Hold(1) }, "holds 1 bytes"},
		{"out of order", func(t *Text) { t.Replace(2, 3, "", 0); t.Replace(0, 1, "", 0) }, "out of order"},
		{"out of bounds", func(t *Text) { t.Replace(0, 100, "", 0) }, "out of bounds"},
		{"within a character", func(t *Text) { t.Replace(0, 1, "", 0) }, "cuts a character"},
		{"refusal", func(t *Text) { t.Refuse(0, "", "") }, "refused"},
		{"failure", func(t *Text) { t.Fail("why") }, "failed: why"},
		{"too many replacements", func(t *Text) {
			for i := range 3 {
				t.Replace(i*3, i*3, strings.Repeat("x", outCap/2), 0)
			}
		}, "out buffer"},
	}
	for _, tt := range tests {
		if _, err := Try(tt.f, Trial{}, "가나다라"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestWindow(t *testing.T) {
	var seen []string
	look := func(t *Text) {
		b, start := t.Window()
		seen = append(seen, string(b[:start])+"|"+string(b[start:]))
		if t.Direction() != ToCaller || t.Role() != Assistant || t.Channel() != Reasoning {
			seen = append(seen, "wrong flags")
		}
	}
	if _, err := Try(look, Trial{Context: 4, Direction: ToCaller, Role: Assistant, Channel: Reasoning}, "abc", "가나", "z"); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(seen, " "), "|abc abc|가나 가나|z"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzHandleRequest reads any metadata, longer heads and records of later versions among them.
func FuzzHandleRequest(f *testing.F) {
	f.Add([]byte{4, 0, 0, 0})
	f.Add([]byte{44, 0, 0, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, meta []byte) {
		n := copy(in[:], meta)
		r := abi.Result(HandleRequest(uint32(n), func(r *Request) {
			r.SetLabel("model", string(r.Model()))
			r.EachTool(func(name []byte) { r.SetLabel("tool", string(name)) })
			if r.Choices() < 0 || r.MaxTokens() < -1 && len(r.head) < abi.HeadLength {
				t.Error("a number from nowhere")
			}
		}))
		if r.Error() == 0 && r.Hold() > outCap {
			t.Errorf("%d bytes of records", r.Hold())
		}
	})
}

func TestTryRequest(t *testing.T) {
	f := func(r *Request) {
		if string(r.Tier()) == "none" {
			r.Refuse(402, "unpaid", "Pay first.")
			return
		}
		r.SetLabel("seen", string(r.Model())+string(r.Label("a"))+string(r.PrincipalLabel("b")))
		r.SetHeader("X-A", "b")
		r.EachTool(func(name []byte) { r.SetModel(string(name)) })
		if !r.Stream() || r.Choices() != 2 || r.MaxTokens() != -1 || r.Tools() != 1 {
			r.Fail("a number is wrong")
		}
	}
	call := Call{Stream: true, Choices: 2, MaxTokens: -1, Model: "m", Labels: map[string]string{"a": "1"}, PrincipalLabels: map[string]string{"b": "2"}, Tools: []string{"t"}}
	s, err := TryRequest(f, call)
	if err != nil || s.Labels["seen"] != "m12" || s.Headers["X-A"] != "b" || s.Model != "t" || s.Refused {
		t.Errorf("got %+v, %v", s, err)
	}
	call.Tier = "none"
	if s, err = TryRequest(f, call); err != nil || !s.Refused || s.Status != "402" || s.Code != "unpaid" || s.Message != "Pay first." {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err = TryRequest(f, Call{}); err == nil || !strings.Contains(err.Error(), "a number is wrong") {
		t.Errorf("got %v", err)
	}
}
