package setting

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestSize(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Size // -1: refused
		back string
	}{
		{"0", 0, "0"}, {"512", 512, "512"}, {"64KiB", 64 << 10, "64KiB"}, {" 32 MiB ", 32 << 20, "32MiB"},
		{"1GiB", 1 << 30, "1GiB"}, {"1MB", 1e6, "1000000"}, {"7B", 7, "7"},
		{"", -1, ""}, {"-1", -1, ""}, {"1.5MiB", -1, ""}, {"MiB", -1, ""}, {"9999999999GiB", -1, ""}, {"1 TiB", -1, ""},
	} {
		var s Size
		err := s.UnmarshalText([]byte(tt.text))
		if (err != nil) != (tt.want < 0) || err == nil && (s != tt.want || s.String() != tt.back) {
			t.Errorf("%q: got %d (%s), %v; want %d", tt.text, s, s, err, tt.want)
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	s := NewSecret("hunter2")
	held := struct {
		S Secret
		P *Secret
		M map[string]Secret
	}{s, &s, map[string]Secret{"k": s}}
	data, err := json.Marshal(held)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x", s, held, held, s, s, s), string(data), fmt.Sprintf("%v", &s)} {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74657232") {
			t.Errorf("the secret shows in %s", text)
		}
	}
	if s.Reveal() != "hunter2" || s.IsZero() || !new(Secret).IsZero() {
		t.Error("the secret is not kept")
	}
}

func TestProblemsKeepTheirPaths(t *testing.T) {
	p := NewProblems()
	p.In("backends").In("gpu-1").Addf("url", "is %s", "bad")
	p.In("auth").In("keys").In("[2]").Addf("id", "twice")
	p.Addf("", "whole")
	want := []Problem{{"backends.gpu-1.url", "is bad"}, {"auth.keys[2].id", "twice"}, {"", "whole"}}
	if got := fmt.Sprint(p.All()); got != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"listen", "max_body", "timeouts", "api_key"}
	for text, want := range map[string]string{
		"listne": "listen", "maxBody": "max_body", "max-body": "max_body", "timeout": "timeouts", "apikey": "api_key",
		"zzz": "", "": "", strings.Repeat("x", 100): "",
	} {
		if got := Nearest(text, names); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
