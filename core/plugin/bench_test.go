package plugin

import (
	"context"
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
)

func BenchmarkStream(b *testing.B) {
	s := stage(b, Entry{Name: "pii-mask"})
	for _, bb := range []struct {
		name   string
		events []string
	}{
		{"passed", []string{content(0, "안녕하세요, 반갑습니다. ")}},
		{"held", []string{content(0, " and"), content(0, " then")}},
		{"masked", []string{content(0, "to kim@example.com. ")}},
		{"no text", []string{usage}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			next := repeat(b, s, bb.events...)
			b.ReportAllocs()
			for b.Loop() {
				next()
			}
		})
	}
}

// BenchmarkText asks about one piece of a text, through the host and the guest.
func BenchmarkText(b *testing.B) {
	p, a, t := stage(b, Entry{Name: "pii-mask"}).outward[0], answer{}, &turn{}
	for name, text := range map[string]string{"16B": "The quick brown ", "64B": "The quick brown fox jumps over the lazy dog, again and once more. "[:64], "34B": "안녕하세요, 반갑습니다. "} {
		b.Run(name, func(b *testing.B) {
			q := piece{text: []byte(text)}
			b.ReportAllocs()
			for b.Loop() {
				if err := p.ask(context.Background(), t, q, &a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	s := stage(b, Entry{Name: "pii-mask"})
	text := strings.Repeat("The quick brown fox 빠른 갈색 여우가 jumps over the lazy dog. ", 16)[:1000]
	for i := len(text); i > 0; i-- {
		if strings.ToValidUTF8(text[:i], "") == text[:i] {
			text = text[:i]
			break
		}
	}
	c := newCall(b, llm.Chat, `{"model":"m","messages":[{"role":"user","content":`+quote(text)+`}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.in(context.Background(), c); err != nil {
			b.Fatal(err)
		}
	}
}
