package main

import (
	"testing"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

func TestMask(t *testing.T) {
	tests := []struct{ config, in, want string }{
		{`{}`, "a secret, secretsecret sec", "a ***, ****** sec"},
		{`{"words":["ab","abcd"],"with":"x"}`, "abc abcd ab", "xc x x"},
		{`{"words":["비밀"],"with":""}`, "내 비밀은 비", "내 은 비"},
		{`{"words":[]}`, "secret", "secret"},
	}
	for _, tt := range tests {
		var l list
		if err := l.configure([]byte(tt.config)); err != nil {
			t.Fatal(err)
		}
		found, err := nexus.TryCuts(l.mask, nexus.Trial{}, tt.in)
		if err != nil || found.Text != tt.want {
			t.Errorf("%s of %q: got %q, %v; want %q", tt.config, tt.in, found.Text, err, tt.want)
		}
	}
}

func TestConfigureRefuses(t *testing.T) {
	for _, config := range []string{`[`, `{"words":"secret"}`, `{"words":[""]}`, `{"word":["a"]}`, `{"with":1}`} {
		if err := new(list).configure([]byte(config)); err == nil {
			t.Errorf("%s is taken", config)
		}
	}
}
