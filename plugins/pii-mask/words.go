package main

// words are what, standing before a number, speaks for it or against it. ASCII is in lower case.
type words struct{ plus, minus []string }

var against = []string{"주문", "접수", "송장", "관리번호", "거래", "계약", "법인", "order", "invoice", "ord-"}

var (
	residentWords  = words{plus: []string{"주민", "rrn", "생년월일", "resident"}, minus: against}
	foreignerWords = words{plus: []string{"외국인", "alien", "rrn", "frn", "주민"}, minus: against}
)

// near says whether the nearest word within look bytes before i speaks for (1) or against (-1); 0: none stands there.
func near(b []byte, i int, w words) int {
	for k := i - 1; k >= 0 && k >= i-look; k-- {
		if anyAt(b[:i], k, w.plus) {
			return 1
		}
		if anyAt(b[:i], k, w.minus) {
			return -1
		}
	}
	return 0
}

// said reports whether a word that speaks for it stands within look bytes before i.
func said(b []byte, i int, w words) bool { return near(b, i, w) > 0 }

func anyAt(b []byte, k int, list []string) bool {
	for _, s := range list {
		if foldAt(b, k, s) {
			return true
		}
	}
	return false
}

// foldAt reports whether s stands at k of b in any case.
func foldAt(b []byte, k int, s string) bool {
	if len(b)-k < len(s) {
		return false
	}
	for j := 0; j < len(s); j++ {
		c := b[k+j]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != s[j] {
			return false
		}
	}
	return true
}
