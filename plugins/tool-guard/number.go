package main

// A decimal is a JSON number exactly as it was written: 0.d1d2d3… × 10^point, the digits without zeros at either
// end. Nothing is rounded, so that 0.1 is a tenth and 2^53+1 is odd.
type decimal struct {
	whole, fraction []byte
	from, to        int // the digits that count, over both
	point           int
	negative        bool
}

// decimalOf reads a number that is known to be well-formed and to have a short exponent.
func decimalOf(b []byte) decimal {
	var d decimal
	if b[0] == '-' {
		d.negative = true
		b = b[1:]
	}
	d.whole, b = digitsOf(b)
	if len(b) > 0 && b[0] == '.' {
		d.fraction, b = digitsOf(b[1:])
	}
	d.to = len(d.whole) + len(d.fraction)
	for d.from < d.to && d.digit(d.from) == '0' {
		d.from++
	}
	for d.to > d.from && d.digit(d.to-1) == '0' {
		d.to--
	}
	d.point = len(d.whole) - d.from
	if len(b) > 0 {
		d.point += exponentOf(b[1:])
	}
	return d
}

func digitsOf(b []byte) (digits, rest []byte) {
	i := 0
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return b[:i], b[i:]
}

func exponentOf(b []byte) (n int) {
	sign := 1
	if b[0] == '-' {
		sign = -1
	}
	for _, c := range b {
		if c != '-' && c != '+' {
			n = n*10 + int(c-'0')
		}
	}
	return sign * n
}

func (d *decimal) digit(i int) byte {
	if i < len(d.whole) {
		return d.whole[i]
	}
	return d.fraction[i-len(d.whole)]
}

func (d *decimal) zero() bool { return d.from == d.to }

// unit is the power of ten of the last digit.
func (d *decimal) unit() int { return d.point - (d.to - d.from) }

func (d *decimal) isInteger() bool { return d.zero() || d.unit() >= 0 }

// compare is -1, 0 or 1 as d is less than, equal to or greater than e.
func (d decimal) compare(e decimal) int {
	switch {
	case d.zero() && e.zero():
		return 0
	case d.zero():
		return -e.sign()
	case e.zero() || d.sign() != e.sign():
		return d.sign()
	case d.point != e.point:
		return d.sign() * order(d.point, e.point)
	}
	for i := 0; ; i++ {
		x, y := d.from+i, e.from+i
		switch {
		case x == d.to && y == e.to:
			return 0
		case x == d.to:
			return -d.sign()
		case y == e.to:
			return d.sign()
		case d.digit(x) != e.digit(y):
			return d.sign() * order(int(d.digit(x)), int(e.digit(y)))
		}
	}
}

func (d *decimal) sign() int {
	if d.negative {
		return -1
	}
	return 1
}

func order(a, b int) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// maxDivisor is the most digits of a multipleOf.
const maxDivisor = 17

// multipleOf reports whether d is a whole number of times e; ok is false when e is nothing to divide by, or too long
// for the sums here.
func (d decimal) multipleOf(e decimal) (is, ok bool) {
	if e.zero() || e.negative || e.to-e.from > maxDivisor {
		return false, false
	}
	if d.zero() || d.unit() < e.unit() {
		return d.zero(), true // d has a digit where e has none
	}
	divisor, rest := uint64(0), uint64(0)
	for i := e.from; i < e.to; i++ {
		divisor = divisor*10 + uint64(e.digit(i)-'0')
	}
	for i := d.from; i < d.to; i++ {
		rest = (rest*10 + uint64(d.digit(i)-'0')) % divisor
	}
	for n := d.unit() - e.unit(); n > 0 && rest > 0; n-- {
		rest = rest * 10 % divisor
	}
	return rest == 0, true
}

// count reads a whole number that is no less than 0, such as a minLength; ok is false when d is none.
func (d decimal) count() (n int, ok bool) {
	if d.negative && !d.zero() || !d.isInteger() {
		return 0, false
	}
	for i := range d.point {
		if n > 1<<28 {
			return n, true // no text is so long
		}
		n *= 10
		if d.from+i < d.to {
			n += int(d.digit(d.from+i) - '0')
		}
	}
	return n, true
}
