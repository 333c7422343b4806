package quota

import (
	"net/http"
	"strconv"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// The names that OpenAI's clients read, in canonical form.
var (
	requestHeaders = [3]string{"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"}
	tokenHeaders   = [3]string{"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"}
)

// resets holds "0s" to "1m0s".
var resets = func() (text [61]string) {
	for i := range text {
		text[i] = (time.Duration(i) * time.Second).String()
	}
	return text
}()

// resetText is the time until a window ends in whole seconds, rounded up.
func resetText(d time.Duration) string {
	seconds := max(0, (d+time.Second-1)/time.Second)
	return resets[min(int(seconds), len(resets)-1)]
}

// setHeaders tells the caller what is left of its own limit of the given kind; the limits of decisions
// are the operator's affair. It overwrites what a backend said of its own limits.
func setHeaders(h http.Header, r *Reservation, kind Kind) {
	for i := range r.Charges {
		c := &r.Charges[i]
		names, ok := headerNames(c)
		if !ok || c.Counter.Kind != kind || r.place == nowhere {
			continue
		}
		text := headerValues(c, r.Reset)
		values := text[:]
		for j, name := range names {
			h[name] = values[j : j+1 : j+1]
		}
	}
}

// addHeaders puts all that r knows on a refusal, and leaves what stands there.
func addHeaders(f *pipeline.Refusal, r *Reservation) {
	if f.Header == nil {
		f.Header = make(map[string]string, 8)
	}
	for i := range r.Charges {
		names, ok := headerNames(&r.Charges[i])
		if !ok || r.place == nowhere {
			continue
		}
		for j, value := range headerValues(&r.Charges[i], r.Reset) {
			if _, there := f.Header[names[j]]; !there {
				f.Header[names[j]] = value
			}
		}
	}
}

func headerNames(c *Charge) (names *[3]string, ok bool) {
	switch c.Counter.Kind {
	case KeyRequests:
		return &requestHeaders, true
	case KeyTokens:
		return &tokenHeaders, true
	}
	return nil, false
}

func headerValues(c *Charge, reset time.Duration) [3]string {
	return [3]string{strconv.FormatInt(c.Limit, 10), strconv.FormatInt(c.Left, 10), resetText(reset)}
}
