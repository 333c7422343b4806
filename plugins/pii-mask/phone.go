package main

// phone returns how many digits of n are a phone number, 0 when they are none.
func (n *number) phone(b []byte) int {
	if n.plus {
		return n.international()
	}
	for k := 11; k >= 9; k-- {
		if k <= n.n && n.bounded(k) && n.korean(b, 0, k) {
			return k
		}
	}
	return 0
}

// korean reports whether the digits [from, k) are a number as dialled within Korea, or, from the country
// code on, without its leading zero.
func (n *number) korean(b []byte, from, k int) bool {
	d := n.digits[from:k]
	if from == 0 {
		if d[0] != 0 {
			return false
		}
		d = d[1:]
	} else if d[0] == 0 {
		return false
	}
	area, mobile := area(d)
	if area == 0 || !subscriber(d, area, mobile) {
		return false
	}
	area += k - from - len(d)
	if !n.grouped(from, from+area, k) {
		return false
	}
	bare := n.shape(k) == uint32(k)
	return mobile || !bare || from > 0 || said(b, n.start, phoneWords)
}

// area returns the length of the area code at the start of d, which has no leading zero, and whether it
// is a mobile one; 0: it is none.
func area(d []byte) (size int, mobile bool) {
	switch d[0] {
	case 1: // 010, 011, 016 to 019
		if d[1] <= 1 || d[1] >= 6 {
			return 2, true
		}
	case 2: // Seoul
		return 1, false
	case 3: // 031 to 033
		if d[1] >= 1 && d[1] <= 3 {
			return 2, false
		}
	case 4, 6: // 041 to 044, 061 to 064
		if d[1] >= 1 && d[1] <= 4 {
			return 2, false
		}
	case 5: // 051 to 055
		if d[1] >= 1 && d[1] <= 5 {
			return 2, false
		}
	case 7: // 070
		if d[1] == 0 {
			return 2, false
		}
	}
	return 0, false
}

// subscriber reports whether what follows the area code is 3-4 and 4 digits. A line's number begins with 2
// or more; mobile numbers are taken as they come, since 010-1234-5678 is what people write.
func subscriber(d []byte, area int, mobile bool) bool {
	rest := len(d) - area
	return (rest == 7 || rest == 8) && (mobile || d[area] >= 2)
}

// grouped reports whether the digits [from, k) are written together, or in three groups of which area
// ends the first and the last has four.
func (n *number) grouped(from, area, k int) bool {
	for i := from + 1; i < k; i++ {
		if i != area && i != k-4 && n.sep[i] != 0 {
			return false
		}
	}
	first, second := n.sep[area], n.sep[k-4]
	switch first {
	case ')': // (010) 1234-5678, 02)345-6789
		return second == '-' || second == ' ' || second == '.'
	case 0, '-', '.', ' ':
		return first == second && !n.paren
	}
	return false
}

// international returns how many digits after a plus sign are a phone number.
func (n *number) international() int {
	for k := min(n.n, 15); k >= 9; k-- {
		if n.bounded(k) && n.abroad(k) {
			return k
		}
	}
	return 0
}

func (n *number) abroad(k int) bool {
	d := n.digits[:k]
	switch {
	case d[0] == 0:
		return false
	case d[0] == 1: // the North American plan
		return k == 11 && d[1] >= 2 && d[4] >= 2
	case d[0] == 8 && d[1] == 2:
		return k >= 10 && n.korean(nil, 2, k) || k >= 11 && d[2] == 0 && n.korean(nil, 3, k) // some keep the 0
	}
	return n.groups(k) <= 6
}

func (n *number) groups(k int) int {
	groups := 1
	for i := 1; i < k; i++ {
		if n.sep[i] != 0 {
			groups++
		}
	}
	return groups
}

var phoneWords = words{plus: []string{"전화", "연락", "번호", "휴대폰", "핸드폰", "수신", "tel", "phone", "mobile", "call", "contact", "fax", "팩스"}, minus: []string{"주문", "접수", "송장", "관리번호", "거래", "계약", "order", "invoice"}}
