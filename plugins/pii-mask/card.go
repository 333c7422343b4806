package main

// card returns how many digits of n are a payment card's number, 0 when they are none.
func (n *number) card() int {
	if n.plus || n.paren {
		return 0
	}
	for k := 19; k >= 13; k-- {
		if k <= n.n && n.bounded(k) && n.written(k) && issuer(n.digits[:k]) && luhn(n.digits[:k]) {
			return k
		}
	}
	return 0
}

// written reports whether the first k digits stand in the groups cards are printed in.
func (n *number) written(k int) bool {
	sep, ok := n.uniform(0, k)
	if !ok || sep != 0 && sep != '-' && sep != ' ' {
		return false
	}
	switch n.shape(k) {
	case 0x4444, 0x44443, 0x465, 0x4445:
		return true
	}
	return sep == 0
}

// issuer reports whether a network issues cards of these first digits and this length.
func issuer(d []byte) bool {
	first2 := int(d[0])*10 + int(d[1])
	first4 := first2*100 + int(d[2])*10 + int(d[3])
	switch {
	case d[0] == 4:
		return len(d) == 13 || len(d) == 16 || len(d) == 19
	case first2 >= 51 && first2 <= 55, first4 >= 2221 && first4 <= 2720, first2 == 94:
		return len(d) == 16
	case first2 == 34, first2 == 37:
		return len(d) == 15
	case first2 == 35:
		return len(d) == 16
	case d[0] == 6:
		return len(d) >= 16
	}
	return false
}

// luhn checks the last digit.
func luhn(d []byte) bool {
	sum := 0
	for i, v := range d {
		if (len(d)-i)%2 == 0 {
			v *= 2
			if v > 9 {
				v -= 9
			}
		}
		sum += int(v)
	}
	return sum%10 == 0
}
