package main

// registration says whether n begins with a Korean resident's or foreigner's registration number, by
// shape, date, check digit and the words before it.
func (n *number) registration(b []byte) (k int, kind Kind) {
	const size = 13
	if n.plus || n.paren || n.n < size || !n.bounded(size) {
		return 0, None
	}
	d := n.digits[:size]
	shape := n.shape(size)
	sep := n.sep[6]
	if shape != 0x67 && shape != size || sep == '.' || sep == '(' || sep == ')' {
		return 0, None
	}
	year, known := born(d)
	if !known {
		return 0, None
	}
	kind, context := RRN, residentWords
	if d[6] >= 5 {
		kind, context = FRN, foreignerWords
	}
	if score(d, kind, year, shape == size, near(b, n.start, context)) < 1 {
		return 0, None
	}
	return size, kind
}

// score weighs what speaks for a registration number. Numbers given since October 2020 have no check
// digit, and so do older people's that were changed since.
func score(d []byte, kind Kind, yearMonth int, bare bool, context int) int {
	points := 0
	switch {
	case checked(d, kind):
		points = 2
	case yearMonth >= 202010:
		points = 1
	}
	if bare && context <= 0 {
		points -= 2
	}
	return points + 2*context
}

// checked checks the last digit, and that the region is one that was ever given.
func checked(d []byte, kind Kind) bool {
	sum := 0
	for i, v := range d[:12] {
		sum += int(v) * (2 + i%8)
	}
	from := 11
	if kind == FRN {
		from = 13
	} else if d[7]*10+d[8] > 95 {
		return false
	}
	return (from-sum%11)%10 == int(d[12])
}

// lastYear bounds births in this century; the plugin has no clock.
const lastYear = 2035

// born reads the date of birth as year and month, YYYYMM; known is false when there is no such day.
func born(d []byte) (yearMonth int, known bool) {
	year := 1900 + int(d[0])*10 + int(d[1])
	switch d[6] {
	case 1, 2, 5, 6:
	case 3, 4, 7, 8:
		year += 100
	default:
		return 0, false
	}
	month, day := int(d[2])*10+int(d[3]), int(d[4])*10+int(d[5])
	if month < 1 || month > 12 || day < 1 || day > days(year, month) || year > lastYear {
		return 0, false
	}
	return year*100 + month, true
}

func days(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}
