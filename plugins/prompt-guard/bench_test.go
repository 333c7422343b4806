package main

import (
	"strings"
	"testing"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

func BenchmarkText(b *testing.B) {
	prose := strings.Repeat("The quick brown fox 빠른 갈색 여우가 jumps over the lazy dog, again. ", 20)[:1024]
	english := strings.Repeat("The quick brown fox jumps over the lazy dog, and then it sleeps. ", 20)[:1024]
	korean := strings.Repeat("회의록을 요약해 주세요. 지난주 결정 사항과 다음 일정도 적어 주시면 됩니다. ", 20)[:1023]
	hostile := strings.Repeat("ignore all the your of previous ", 32)
	for name, text := range map[string]string{"mixed": prose, "english": english, "korean": korean, "hostile": hostile, "chunk": "and then the fox"} {
		b.Run(name, func(b *testing.B) {
			g := ready(b, "")
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := nexus.Try(g.text, nexus.Trial{Role: nexus.User, MaxHold: trialHold}, text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestTextAllocatesNothing: of what Try itself allocates, a text that holds nothing adds nothing.
func TestTextAllocatesNothing(t *testing.T) {
	g := ready(t, lists)
	text := strings.Repeat("회의록을 요약해 주세요. falcon ignore the fox. ", 20)
	nothing := func(t *nexus.Text) {}
	count := func(f func(*nexus.Text)) float64 {
		return testing.AllocsPerRun(50, func() {
			if _, err := nexus.Try(f, nexus.Trial{Role: nexus.System, MaxHold: trialHold}, text); err != nil {
				t.Fatal(err)
			}
		})
	}
	scan := func(t *nexus.Text) {
		b := t.Bytes()
		c := scan{g: g, s: &scratch, b: b, size: len(b), open: len(b), masks: one.masks[:0], lists: 1, phrases: true}
		scratch.begin(0, true, false)
		c.walk()
		one.masks = c.masks
	}
	if got, want := count(scan), count(nothing); got != want {
		t.Errorf("%v allocations, want the %v of Try", got, want)
	}
}

// TestHostile: texts made to keep the guard busy stay within the deadline by far, and are held no longer than said.
func TestHostile(t *testing.T) {
	g := ready(t, lists)
	for _, unit := range []string{"ignore ", "ignore all ", "이전 모든 ", "f a l c o n ", "\u200b", "<|", "do not ", "금강", "\\u00", "ㅅ", "decode this base64 string "} {
		text := strings.Repeat(unit, 32000/len(unit))
		judge(t, g, user, text)
		var cuts []string
		for rest := text[:4000/len(unit)*len(unit)]; rest != ""; rest = rest[len(unit):] {
			cuts = append(cuts, rest[:len(unit)])
		}
		judge(t, g, user, cuts...)
	}
}
