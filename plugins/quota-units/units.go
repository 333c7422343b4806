package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// An amount counts millionths of a unit. Amounts are whole numbers, so that what is settled is exact.
type amount int64

const (
	unit       = 1_000_000
	maxAmount  = amount(1e15) // a billion units: what a counter of the gateway takes, and more
	errDecimal = nexus.Error("must be a number from 0 to a billion, of at most 6 decimals")
)

// parseAmount reads a number as it is written in JSON.
func parseAmount(s string) (amount, error) {
	var a amount
	digits, decimals, point := 0, 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '.' && !point && digits > 0:
			point = true
			continue
		case c < '0' || c > '9' || decimals == 6 || a > maxAmount:
			return 0, errDecimal
		}
		a = a*10 + amount(c-'0')
		digits++
		if point {
			decimals++
		}
	}
	for ; decimals < 6 && a <= maxAmount; decimals++ {
		a *= 10
	}
	if digits == 0 || a > maxAmount {
		return 0, errDecimal
	}
	return a, nil
}

// append writes the amount in units.
func (a amount) append(b []byte) []byte {
	b = appendInt(b, int64(a)/unit)
	rest := int64(a) % unit
	if rest == 0 {
		return b
	}
	b = append(b, '.')
	for place := int64(unit / 10); rest > 0; place /= 10 {
		b = append(b, byte('0'+rest/place))
		rest %= place
	}
	return b
}

func (a amount) String() string { return string(a.append(nil)) }

func appendInt(b []byte, n int64) []byte {
	if n < 0 {
		b = append(b, '-')
		n = -n
	}
	var digits [20]byte
	i := len(digits)
	for {
		i--
		digits[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return append(b, digits[i:]...)
		}
	}
}

// Weights are what a call costs.
type weights struct {
	models                              []string // patterns; none is every model
	request, prompt, cached, completion amount   // a request; a token of each kind
}

// cost is what a call costs: cached tokens are some of the prompt's. What would be more than an amount can say is the
// most that it can.
func (w *weights) cost(prompt, cached, completion int64) amount {
	prompt, completion = max(prompt, 0), max(completion, 0)
	cached = min(max(cached, 0), prompt)
	sum := w.request
	sum = plus(sum, times(w.prompt, prompt-cached))
	sum = plus(sum, times(w.cached, cached))
	return plus(sum, times(w.completion, completion))
}

func plus(a, b amount) amount { return min(a+b, maxAmount) }

func times(a amount, n int64) amount {
	if a > 0 && n > int64(maxAmount/a) {
		return maxAmount
	}
	return a * amount(n)
}
