package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

// masked is the whole text masked at once.
func maskedWhole(t testing.TB, text string) string {
	t.Helper()
	return maskedPieces(t, text)
}

// maskedPieces masks a text that comes in pieces.
func maskedPieces(t testing.TB, pieces ...string) string {
	t.Helper()
	m := masker{want: All, placeholders: fill("[{kind}]")}
	found, err := nexus.Try(m.text, nexus.Trial{Context: 96}, pieces...)
	if err != nil {
		t.Fatalf("%q: %v", pieces, err)
	}
	return found.Text
}

func TestMask(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing", "hello, world", "hello, world"},
		{"mail", "write to kim.cs+a@mail.example.co.kr.", "write to [EMAIL]."},
		{"mail before Hangul", "메일은 kim@naver.com로 보내", "메일은 [EMAIL]로 보내"},
		{"mail behind Hangul", "메일은kim@naver.com", "메일은[EMAIL]"},
		{"mail in brackets", "Kim <kim@x.io>, (lee@y.org)", "Kim <[EMAIL]>, ([EMAIL])"},
		{"mail after =", "to=kim@x.io&cc=1", "to=[EMAIL]&cc=1"},
		{"mail in a URL's escapes", "kim%40x.io", "[EMAIL]"},
		{"mail after an escape", `"hi\nkim@x.io"`, `"hi\n[EMAIL]"`},
		{"mail after an escaped character", `"hi\u0020kim@x.io"`, `"hi\u0020[EMAIL]"`},
		{"repository", "git@github.com:acme/gateway.git", "git@github.com:acme/gateway.git"},
		{"image", "logo@2x.png", "logo@2x.png"},
		{"package", "@scope/pkg@1.2", "@scope/pkg@1.2"},
		{"host", "root@localhost", "root@localhost"},
		{"user of a URL", "postgres://app:secret@db.example.com/x", "postgres://app:secret@db.example.com/x"},
		{"long local part", strings.Repeat("a", 65) + "@x.io", strings.Repeat("a", 65) + "@x.io"},
		{"longest local part", strings.Repeat("a", 64) + "@x.io", "[EMAIL]"},

		{"mobile", "010-1234-5678", "[PHONE]"},
		{"mobile, all ways", "01012345678 010.2345.6789 010 2345 6789 (010) 2345-6789 011-234-5678", "[PHONE] [PHONE] [PHONE] [PHONE] [PHONE]"},
		{"mobile before Hangul", "연락처는010-2345-6789로", "연락처는[PHONE]로"},
		{"Seoul", "02-345-6789 and 02)2345-6789", "[PHONE] and [PHONE]"},
		{"landline", "031-754-8241", "[PHONE]"},
		{"bare landline, said to be one", "전화 0317548241", "전화 [PHONE]"},
		{"bare landline, not said to be one", "값 0317548241", "값 0317548241"},
		{"from abroad", "+82-10-2345-6789, +821023456789, +82 10 2345 6789", "[PHONE], [PHONE], [PHONE]"},
		{"America", "+1 (725) 287-3377", "[PHONE]"},
		{"Britain", "+44 20 7946 0958", "[PHONE]"},
		{"full width", "０１０－２３４５－６７８９", "[PHONE]"},
		{"en dash", "010–2345–6789", "[PHONE]"},
		{"zero-width space", "010-2345\u200b-6789", "[PHONE]"},
		{"end of a sentence", "Call 010-2345-6789.", "Call [PHONE]."},
		{"digit before", "2010-2345-6789", "2010-2345-6789"},
		{"digit after", "010-2345-67890", "010-2345-67890"},
		{"letter after", "010-2345-6789a", "010-2345-6789a"},
		{"too short", "010-1234-567", "010-1234-567"},
		{"version", "010.12.34 and 1.30.5.16-rc2 and 10.0.19041.1234", "010.12.34 and 1.30.5.16-rc2 and 10.0.19041.1234"},
		{"company line", "1588-1234", "1588-1234"},
		{"mixed separators", "010-2345.6789", "010-2345.6789"},
		{"time zone", "2025-12-29T18:14:49+09:00", "2025-12-29T18:14:49+09:00"},

		{"resident, checked", "주민등록번호 900101-1234568", "주민등록번호 [KR_RRN]"},
		{"resident, unasked", "x 900101-1234568 y", "x [KR_RRN] y"},
		{"resident, wrong check digit", "x 900101-1234567 y", "x 900101-1234567 y"},
		{"resident, wrong check digit, but said to be one", "주민번호 900101-1234567", "주민번호 [KR_RRN]"},
		{"resident, born after the check digit went", "210721-3595366", "[KR_RRN]"},
		{"resident, no such day", "주민번호 900231-1234568", "주민번호 900231-1234568"},
		{"resident, leap day", "주민번호 000229-3234567", "주민번호 [KR_RRN]"},
		{"resident, no leap day", "주민번호 010229-3234567", "주민번호 010229-3234567"},
		{"resident, bare, said to be one", "rrn=9001011234568", "rrn=[KR_RRN]"},
		{"resident, bare", "ts 9001011234568", "ts 9001011234568"},
		{"resident, spaced hyphen", "주민번호 900101 - 1234568", "주민번호 [KR_RRN]"},
		{"order that looks like one", "주문번호 210721-3595366", "주문번호 210721-3595366"},
		{"order nearer than resident", "주민번호 말고 주문 210721-3595366", "주민번호 말고 주문 210721-3595366"},
		{"order with a longer date", "20250724-3999736", "20250724-3999736"},
		{"foreigner", "alien registration no. 700709-5749869", "alien registration no. [KR_FRN]"},
		{"milliseconds", "1704240244192", "1704240244192"},

		{"card", "4111 1111 1111 1111", "[CREDIT_CARD]"},
		{"card, bare", "4111111111111111", "[CREDIT_CARD]"},
		{"card, American Express", "3782-822463-10005", "[CREDIT_CARD]"},
		{"card, wrong check digit", "4111 1111 1111 1112", "4111 1111 1111 1112"},
		{"card, no such issuer", "0900609519718471", "0900609519718471"},
		{"card, longer number", "41111111111111110000", "41111111111111110000"},
		{"digest", "e393dee3cfea9c564c48d879228dc25899b50068", "e393dee3cfea9c564c48d879228dc25899b50068"},
		{"fraction", "0.4111111111111111", "0.4111111111111111"},
		{"two in a row", "010-2345-6789 010-2345-6780", "[PHONE] [PHONE]"},
		{"many", "kim@x.io,010-2345-6789;4111-1111-1111-1111", "[EMAIL],[PHONE];[CREDIT_CARD]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := maskedWhole(t, tt.in); got != tt.want {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			everyCut(t, tt.in, tt.want)
		})
	}
}

// everyCut masks text cut in two at every place, in three at some, and rune by rune.
func everyCut(t *testing.T, text, want string) {
	t.Helper()
	runes := strings.Split(text, "")
	if got := maskedPieces(t, append(runes, "")...); got != want {
		t.Fatalf("rune by rune: got %q, want %q", got, want)
	}
	for i := range text {
		if got := maskedPieces(t, text[:i], text[i:]); got != want {
			t.Fatalf("cut at %d: got %q, want %q", i, got, want)
		}
	}
}

// A document is one line of the labelled corpus.
type document struct {
	Text  string
	Spans [][3]any
	Adv   [][3]any
	Cuts  []int
}

func corpus(t testing.TB) (all []document) {
	t.Helper()
	f, err := os.Open("../../../shared/pii/public.jsonl")
	if err != nil {
		t.Skip("the labelled corpus is not here")
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var d document
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func matches(b []byte) (all []Match) {
	for at := 0; ; {
		m := Next(b, at, true, All)
		if m.Kind == None {
			return all
		}
		all = append(all, m)
		at = m.End
	}
}

// TestCorpus measures exact precision and recall by kind, obfuscated values aside.
func TestCorpus(t *testing.T) {
	var gold, found, hit [kinds]int
	for _, d := range corpus(t) {
		disguised := map[int]bool{}
		for _, a := range d.Adv {
			disguised[int(a[0].(float64))] = true
		}
		labelled := map[Match]bool{}
		for _, s := range d.Spans {
			m := Match{int(s[0].(float64)), int(s[1].(float64)), kindOf(s[2].(string))}
			labelled[m] = true
			if !disguised[m.Start] {
				gold[m.Kind]++
			}
		}
		for _, m := range matches([]byte(d.Text)) {
			if labelled[m] && disguised[m.Start] {
				continue
			}
			found[m.Kind]++
			if labelled[m] {
				hit[m.Kind]++
			}
		}
	}
	least := [kinds]float64{Email: 0.99, Phone: 0.99, RRN: 0.98, FRN: 0.99, Card: 0.99}
	for k := Email; k < kinds; k++ {
		p, r := float64(hit[k])/float64(found[k]), float64(hit[k])/float64(gold[k])
		f1 := 2 * p * r / (p + r)
		t.Logf("%-12s labelled %4d, found %4d: precision %.4f, recall %.4f, F1 %.4f", names[k], gold[k], found[k], p, r, f1)
		if f1 < least[k] {
			t.Errorf("%s: F1 %.4f, want at least %.2f", names[k], f1, least[k])
		}
	}
}

// TestCorpusCuts compares the stream with the whole, under each document's own cuts, rune by rune, and for
// some documents cut in two at every place.
func TestCorpusCuts(t *testing.T) {
	for n, d := range corpus(t) {
		want := maskedWhole(t, d.Text)
		var pieces []string
		at := 0
		for _, c := range d.Cuts {
			pieces = append(pieces, d.Text[at:c])
			at = c
		}
		if got := maskedPieces(t, append(pieces, d.Text[at:])...); got != want {
			t.Fatalf("document %d under its cuts:\n got %q\nwant %q", n, got, want)
		}
		if got := maskedPieces(t, append(strings.Split(d.Text, ""), "")...); got != want {
			t.Fatalf("document %d rune by rune:\n got %q\nwant %q", n, got, want)
		}
		if n%10 == 0 {
			everyCut(t, d.Text, want)
		}
	}
}

func TestHoldsLittle(t *testing.T) {
	m := masker{want: All, placeholders: fill("[{kind}]")}
	hostile := strings.Repeat("a.", 500) + "@" + strings.Repeat("b.", 500) + strings.Repeat("1 ", 200) + strings.Repeat("０", 200) + strings.Repeat("1\u200b", 100)
	found, err := nexus.Try(m.text, nexus.Trial{Context: 96}, append(strings.Split(hostile, ""), "")...)
	if err != nil {
		t.Fatal(err)
	}
	if found.Held > 200 {
		t.Errorf("held %d bytes at once, want at most 200", found.Held)
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	b := []byte(strings.Repeat("kim@example.com 010-2345-6789 주민 900101-1234568 그리고 text ", 20))
	if n := testing.AllocsPerRun(100, func() {
		for at := 0; at < len(b); {
			m := Next(b, at, true, All)
			if m.Kind == None {
				break
			}
			at = m.End
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestConfigure(t *testing.T) {
	tests := []struct{ name, config, in, want, problem string }{
		{name: "nothing", config: ``, in: "a@x.io 010-2345-6789", want: "[EMAIL] [PHONE]"},
		{name: "kinds", config: `{"kinds": ["PHONE"]}`, in: "a@x.io 010-2345-6789", want: "a@x.io [PHONE]"},
		{name: "placeholder", config: `{"placeholder": "<{kind}>"}`, in: "a@x.io", want: "<EMAIL>"},
		{name: "placeholder without a kind", config: `{"placeholder": "***"}`, in: "a@x.io", want: "***"},
		{name: "report", config: `{"mode": "report"}`, in: "a@x.io", want: "a@x.io"},
		{name: "unknown kind", config: `{"kinds": ["MAIL"]}`, problem: "unknown kind MAIL"},
		{name: "kinds of the wrong type", config: `{"kinds": "EMAIL"}`, problem: "must be a list"},
		{name: "unknown key", config: `{"kindz": []}`, problem: "unknown key kindz"},
		{name: "placeholder that breaks JSON", config: `{"placeholder": "\""}`, problem: "no quotes"},
		{name: "no JSON", config: `kinds`, problem: "not a JSON object"},
		{name: "mode", config: `{"mode": "block"}`, problem: "mode must be"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := masker{want: All, placeholders: fill("[{kind}]")}
			err := m.configure([]byte(tt.config))
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("got error %v, want %q", err, tt.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			found, err := nexus.Try(m.text, nexus.Trial{Context: 96}, tt.in)
			if err != nil || found.Text != tt.want {
				t.Fatalf("got %q, %v; want %q", found.Text, err, tt.want)
			}
		})
	}
}

// FuzzCuts holds the law of cut invariance against any text cut at any two places.
func FuzzCuts(f *testing.F) {
	f.Add("kim@example.com 010-2345-6789 주민 900101-1234568, 4111 1111 1111 1111", uint(5), uint(30))
	f.Add("+82 (0)10-2345-6789&#45;%2D\u200b０１０", uint(1), uint(2))
	f.Add(`a\u0040b.com\\n@@..--x@y.z.io:x`, uint(3), uint(9))
	f.Fuzz(func(t *testing.T, text string, a, b uint) {
		if !utf8.ValidString(text) || len(text) > 4000 {
			return
		}
		i, j := runeAt(text, a), runeAt(text, b)
		if i > j {
			i, j = j, i
		}
		want := maskedWhole(t, text)
		if got := maskedPieces(t, text[:i], text[i:j], text[j:]); got != want {
			t.Fatalf("cut at %d and %d:\n got %q\nwant %q", i, j, got, want)
		}
	})
}

func runeAt(s string, n uint) int {
	i := int(n % uint(len(s)+1))
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	return i
}

func BenchmarkNext(b *testing.B) {
	prose := []byte(strings.Repeat("The quick brown fox 빠른 갈색 여우가 jumps over the lazy dog, again. ", 20)[:1024])
	rich := []byte(strings.Repeat("kim@example.com, 010-2345-6789, 주민 900101-1234568 그리고 text 2024-01-02; ", 15)[:1024])
	for name, text := range map[string][]byte{"prose": prose, "rich": rich} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				for at := 0; at < len(text); {
					m := Next(text, at, true, All)
					if m.Kind == None {
						break
					}
					at = m.End
				}
			}
		})
	}
}
