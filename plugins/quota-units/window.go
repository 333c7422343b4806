package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// A window is how long a limit counts before it begins anew: a minute, an hour, a day or a month by the clocks of one
// offset from UTC.
type window struct {
	name   string
	offset int64 // milliseconds
}

const (
	second = 1000 // milliseconds
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour
)

// around is when the window that now lies in begins and ends, in Unix milliseconds.
func (w *window) around(now int64) (start, end int64) {
	local := now + w.offset
	length := int64(day)
	switch w.name {
	case "minute":
		length = minute
	case "hour":
		length = hour
	case "month":
		year, month, _ := date(floor(local, day))
		start = days(year, month) * day
		if month++; month > 12 {
			year, month = year+1, 1
		}
		return start - w.offset, days(year, month)*day - w.offset
	}
	start = floor(local, length) * length
	return start - w.offset, start + length - w.offset
}

func floor(n, by int64) int64 {
	if n < 0 {
		return (n - by + 1) / by
	}
	return n / by
}

// date is the day n days after 1970-01-01. Years are counted from March, so that a leap day is a year's last.
func date(n int64) (year, month, dayOf int64) {
	n += 719468 // from 0000-03-01
	era := floor(n, 146097)
	n -= era * 146097
	year = (n - n/1460 + n/36524 - n/146096) / 365
	n -= 365*year + year/4 - year/100
	month = (5*n + 2) / 153
	dayOf = n - (153*month+2)/5 + 1
	year += era * 400
	if month += 3; month > 12 {
		return year + 1, month - 12, dayOf
	}
	return year, month, dayOf
}

// days is how many days after 1970-01-01 a month begins.
func days(year, month int64) int64 {
	if month -= 3; month < 0 {
		year, month = year-1, month+12
	}
	era := floor(year, 400)
	of := year - era*400
	return era*146097 + of*365 + of/4 - of/100 + (153*month+2)/5 - 719468
}

// append writes a time as RFC 3339 has it, by the window's clocks.
func (w *window) append(b []byte, ms int64) []byte {
	local := ms + w.offset
	n := floor(local, day)
	year, month, dayOf := date(n)
	of := local - n*day
	b = append(two(b, year/100), byte('0'+year/10%10), byte('0'+year%10), '-')
	b = append(two(b, month), '-')
	b = append(two(b, dayOf), 'T')
	b = append(two(b, of/hour), ':')
	b = append(two(b, of/minute%60), ':')
	b = two(b, of/second%60)
	if w.offset == 0 {
		return append(b, 'Z')
	}
	sign, offset := byte('+'), w.offset
	if offset < 0 {
		sign, offset = '-', -offset
	}
	return two(append(two(append(b, sign), offset/hour), ':'), offset/minute%60)
}

func two(b []byte, n int64) []byte { return append(b, byte('0'+n/10%10), byte('0'+n%10)) }

const errOffset = nexus.Error(`offset must be UTC, or hours and minutes from it, such as "+09:00"`)

// parseOffset reads UTC, +09:00 or -03:30.
func parseOffset(s string) (ms int64, err error) {
	if s == "UTC" || s == "Z" {
		return 0, nil
	}
	if len(s) != 6 || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return 0, errOffset
	}
	for _, i := range [...]int{1, 2, 4, 5} {
		if s[i] < '0' || s[i] > '9' {
			return 0, errOffset
		}
	}
	hours, minutes := int64(s[1]-'0')*10+int64(s[2]-'0'), int64(s[4]-'0')*10+int64(s[5]-'0')
	if hours > 14 || minutes > 59 {
		return 0, errOffset
	}
	ms = hours*hour + minutes*minute
	if s[0] == '-' {
		ms = -ms
	}
	return ms, nil
}
