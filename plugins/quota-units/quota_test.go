package main

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

const config = `{"by":"tenant","window":"day","offset":"+09:00","limit":10,
	"overrides":[{"tenants":["big*"],"limit":1000},{"tiers":["none"],"limit":0}],
	"weights":[
		{"models":["large*"],"request":0.5,"prompt":0.01,"cached":0.001,"completion":0.02},
		{"request":1}],
	"completion_tokens":100,"most_completion_tokens":200`

func quotaOf(t testing.TB, text string) *quota {
	t.Helper()
	q := &quota{}
	if err := q.configure([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return q
}

// noon is on the 21st in Seoul, whose day ends three hours later.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC).UnixMilli()

func newHost() *nexus.Host {
	h := nexus.TryHost(nexus.NewHost())
	h.Now = noon
	return h
}

// counter is the only counter there is.
func counter(t testing.TB, h *nexus.Host) int64 {
	t.Helper()
	if len(h.Counters) != 1 {
		t.Fatalf("counters %v", h.Counters)
	}
	for _, n := range h.Counters {
		return n
	}
	return 0
}

// ask sends a request in; its labels go on with the call.
func ask(t testing.TB, q *quota, c *nexus.Call) nexus.Said {
	t.Helper()
	said, err := nexus.TryRequest(q.request, *c)
	if err != nil {
		t.Fatal(err)
	}
	c.Labels = said.Labels
	return said
}

func use(t testing.TB, q *quota, h *nexus.Host, u nexus.Used) nexus.Said {
	t.Helper()
	u.Labels = merged(u.Labels, h.Labels)
	said, err := nexus.TryUsage(q.usage, u)
	if err != nil {
		t.Fatal(err)
	}
	return said
}

func over(t testing.TB, q *quota, h *nexus.Host, e nexus.Ended) {
	t.Helper()
	e.Labels = merged(e.Labels, h.Labels)
	if err := nexus.TryEnd(q.end, e); err != nil {
		t.Fatal(err)
	}
}

func merged(first, then map[string]string) map[string]string {
	all := map[string]string{}
	for k, v := range first {
		all[k] = v
	}
	for k, v := range then {
		all[k] = v
	}
	return all
}

func TestReserve(t *testing.T) {
	tests := []struct {
		name string
		call nexus.Call
		want int64 // millionths
	}{
		{"by the request alone", nexus.Call{Model: "small", MaxTokens: 50, Bytes: 4000, Choices: 1}, 1e6},
		{"what the caller asks for", nexus.Call{Model: "large-2", MaxTokens: 50, Bytes: 400, Choices: 1}, 500_000 + 100*10_000 + 50*20_000},
		{"what is supposed", nexus.Call{Model: "large", MaxTokens: -1, Choices: 1}, 500_000 + 100*20_000},
		{"no more than set", nexus.Call{Model: "large", MaxTokens: 1e9, Choices: 1}, 500_000 + 200*20_000},
		{"for every choice", nexus.Call{Model: "large", MaxTokens: 10, Choices: 3}, 500_000 + 30*20_000},
		{"without choices", nexus.Call{Model: "large", MaxTokens: 10}, 500_000 + 10*20_000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost()
			said := ask(t, quotaOf(t, config+"}"), &tt.call)
			if got := counter(t, h); said.Refused || got != tt.want {
				t.Errorf("reserved %d, want %d; %+v", got, tt.want, said)
			}
			if want := amount(10*unit - tt.want).String(); said.Labels[labelRemaining] != want {
				t.Errorf("%s remain, want %s", said.Labels[labelRemaining], want)
			}
		})
	}
}

func TestExhausted(t *testing.T) {
	h := newHost()
	q := quotaOf(t, config+"}")
	call := nexus.Call{Tenant: "acme", Model: "small"}
	for range 10 {
		if said := ask(t, q, &call); said.Refused {
			t.Fatalf("refused: %+v", said)
		}
	}
	said := ask(t, q, &call)
	const want = "What is left of the quota of 10 units a day of your tenant does not cover this call, which takes 1; the day ends at 2026-11-22T00:00:00+09:00."
	if !said.Refused || said.Status != "429" || said.Code != "units_exhausted" || said.Message != want || said.Retry != "10800" || len(said.Labels) > 0 {
		t.Errorf("got %+v", said)
	}
	if h.Metrics["calls_refused"] != 1 {
		t.Errorf("counted %v", h.Metrics)
	}
	for name, c := range map[string]nexus.Call{"another tenant": {Tenant: "other"}, "another limit": {Tenant: "big-one"}} {
		if said := ask(t, q, &c); said.Refused {
			t.Errorf("%s: %+v", name, said)
		}
	}
	if said := ask(t, q, &nexus.Call{Tenant: "third", Tier: "none"}); !said.Refused {
		t.Error("a limit of nothing lets something in")
	}
	h.Now += 3 * hour
	if said := ask(t, q, &call); said.Refused {
		t.Errorf("the next day: %+v", said)
	}
}

func TestSettle(t *testing.T) {
	large := nexus.Call{Tenant: "a", Model: "large", MaxTokens: 100, Bytes: 400} // reserves 3.5
	tests := []struct {
		name    string
		usage   []nexus.Used
		end     nexus.Ended
		want    int64
		charged string
	}{
		{"less than reserved", []nexus.Used{{Final: true, Prompt: 50, Completion: 10}}, nexus.Ended{Status: 200}, 500_000 + 500_000 + 200_000, "1.2"},
		{"more than reserved", []nexus.Used{{Final: true, Prompt: 150, Completion: 110, Cached: 100}}, nexus.Ended{Status: 200}, 500_000 + 500_000 + 100_000 + 2_200_000, "3.3"},
		{"beyond the limit", []nexus.Used{{Final: true, Prompt: 100, Completion: 1000}}, nexus.Ended{Status: 200}, 500_000 + 1_000_000 + 20_000_000, "21.5"},
		{"counted on the way", []nexus.Used{{Prompt: 100, Completion: 500}, {Final: true, Completion: 1}}, nexus.Ended{Status: 200}, 520_000, "0.52"},
		{"twice", []nexus.Used{{Final: true, Completion: 1}, {Final: true, Completion: 500}}, nexus.Ended{Status: 200}, 520_000, "0.52"},
		{"at the end alone", nil, nexus.Ended{Used: nexus.Used{Prompt: 10, Completion: 1}, Status: 200}, 620_000, ""},
		{"refused further on", nil, nexus.Ended{Status: 403}, 0, ""},
		{"failed before a token", []nexus.Used{{Final: true}}, nexus.Ended{Status: 502}, 0, ""},
		{"failed after some", nil, nexus.Ended{Used: nexus.Used{Prompt: 10}, Status: 499}, 600_000, ""},
		{"answered without a backend", nil, nexus.Ended{Status: 200}, 500_000, ""},
		{"more cached than there were", []nexus.Used{{Final: true, Prompt: 10, Cached: 100}}, nexus.Ended{}, 510_000, "0.51"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost()
			q := quotaOf(t, config+"}")
			call := large
			ask(t, q, &call)
			if got := counter(t, h); got != 3_500_000 {
				t.Fatalf("reserved %d", got)
			}
			for _, u := range tt.usage {
				u.Call = call
				if said := use(t, q, h, u); said.Refused {
					t.Fatalf("cut: %+v", said)
				}
			}
			tt.end.Call = call
			over(t, q, h, tt.end)
			if got := counter(t, h); got != tt.want || h.Labels[labelCharged] != tt.charged {
				t.Errorf("charged %d (%s), want %d (%s)", got, h.Labels[labelCharged], tt.want, tt.charged)
			}
			if got, want := h.Metrics["units_charged"], float64(tt.want)/unit; got != want {
				t.Errorf("counted %v, want %v", got, want)
			}
		})
	}
}

// TestSettleAnother: a call is settled by the weights of the model that it was sent for in the end.
func TestSettleAnother(t *testing.T) {
	h := newHost()
	q := quotaOf(t, config+"}")
	call := nexus.Call{Tenant: "a", Model: "small"}
	ask(t, q, &call)
	call.Model = "large"
	over(t, q, h, nexus.Ended{Used: nexus.Used{Call: call, Completion: 10}, Status: 200})
	if got := counter(t, h); got != 700_000 {
		t.Errorf("charged %d", got)
	}
}

// TestSettleLate: a call is settled in the window that it began in.
func TestSettleLate(t *testing.T) {
	h := newHost()
	q := quotaOf(t, config+"}")
	call := nexus.Call{Tenant: "a", Model: "large", MaxTokens: 100}
	ask(t, q, &call)
	h.Now += 4 * hour
	use(t, q, h, nexus.Used{Call: call, Final: true, Completion: 1})
	if got := counter(t, h); got != 520_000 {
		t.Errorf("the old window has %d", got)
	}
}

func TestCut(t *testing.T) {
	h := newHost()
	q := quotaOf(t, config+`,"cut":true}`)
	call := nexus.Call{Tenant: "a", Model: "large", MaxTokens: 10} // reserves 0.7, of 10
	ask(t, q, &call)
	for _, step := range []struct {
		tokens, want int64
		cut          bool
	}{
		{5, 700_000, false},
		{10, 700_000, false},
		{11, 720_000 + 64*20_000, false},
		{75, 720_000 + 64*20_000, false},
		{400, 8_500_000 + 64*20_000, false},
		{470, 9_900_000, false}, // a little more does not fit, what is needed does
		{475, 10_000_000, false},
		{476, 10_000_000, true},
	} {
		said := use(t, q, h, nexus.Used{Call: call, Completion: step.tokens})
		if got := counter(t, h); got != step.want || said.Refused != step.cut {
			t.Fatalf("at %d tokens %d are reserved, want %d; %+v", step.tokens, got, step.want, said)
		}
		if step.cut && (said.Status != "429" || said.Code != "units_exhausted" || h.Metrics["calls_cut"] != 1) {
			t.Errorf("cut with %+v", said)
		}
	}
	over(t, q, h, nexus.Ended{Used: nexus.Used{Call: call, Completion: 476}, Status: 200})
	if got := counter(t, h); got != 10_020_000 {
		t.Errorf("settled at %d", got)
	}
}

// TestForged: labels that are not the plugin's own settle nothing.
func TestForged(t *testing.T) {
	for _, label := range []string{"", "settled", "1", "1/", "/1", "1/2/3", "-1/2", "1//2", "99999999999999999/1", "1/2x"} {
		h := newHost()
		q := quotaOf(t, config+"}")
		c := nexus.Call{Labels: map[string]string{labelState: label}}
		use(t, q, h, nexus.Used{Call: c, Final: true, Prompt: 1})
		over(t, q, h, nexus.Ended{Used: nexus.Used{Call: c}, Status: 200})
		if len(h.Counters) > 0 {
			t.Errorf("%q counts %v", label, h.Counters)
		}
	}
}

func TestKeys(t *testing.T) {
	long := strings.Repeat("x", 300)
	seen := map[string]string{}
	for _, by := range []string{"key", "tenant", "team"} {
		for _, c := range []nexus.Call{{Principal: "k", Tenant: "t", Team: "m"}, {Principal: "k" + long, Tenant: "t" + long, Team: "m" + long},
			{Principal: "k" + long + "2", Tenant: "t" + long + "2", Team: "m" + long + "2"}, {Principal: "k2", Tenant: "t2", Team: "m"}} {
			h := newHost()
			ask(t, quotaOf(t, `{"by":"`+by+`","limit":1,"weights":[{"request":1}]}`), &c)
			for key := range h.Counters {
				if len(key) > 256 || seen[key] != "" {
					t.Errorf("%s of %s has the key %q, as has %s", by, c.Tenant, key, seen[key])
				}
				seen[key] = by + " " + c.Tenant
			}
		}
	}
}

func TestConfigure(t *testing.T) {
	const weights = `"weights":[{"request":1}]`
	tests := []struct{ name, config, want string }{
		{"nothing", ``, "limit is missing"},
		{"no JSON", `{`, "not JSON"},
		{"no limit", `{` + weights + `}`, "limit is missing"},
		{"no weights", `{"limit":1}`, "weights are missing"},
		{"empty weights", `{"limit":1,"weights":[]}`, "weights are missing"},
		{"a model without a price", `{"limit":1,"weights":[{"models":["a"]}]}`, "the last of weights must name no models"},
		{"an unknown key", `{"limits":1}`, "unknown key limits"},
		{"an unknown weight", `{"limit":1,"weights":[{"tokens":1}]}`, "weights[0]: unknown key tokens"},
		{"a weight of another kind", `{"limit":1,"weights":["x"]}`, "weights[0]: must be an object"},
		{"a negative weight", `{"limit":1,"weights":[{"request":-1}]}`, "weights[0]: request must be a number from 0"},
		{"a weight too fine", `{"limit":1,"weights":[{"request":0.0000001}]}`, "at most 6 decimals"},
		{"a weight too great", `{"limit":1,"weights":[{"request":1000001}]}`, "request must be at most 1000000"},
		{"a limit too great", `{"limit":1000000001,` + weights + `}`, "limit must be a number from 0 to a billion"},
		{"a limit of another kind", `{"limit":"1",` + weights + `}`, "limit must be a number"},
		{"a wrong window", `{"window":"week"}`, "window must be one of minute hour day month"},
		{"a wrong by", `{"by":"user"}`, "by must be one of key tenant team"},
		{"a wrong offset", `{"offset":"+9"}`, "offset must be UTC"},
		{"an override without a limit", `{"overrides":[{"keys":["a"]}]}`, "overrides[0]: limit is missing"},
		{"an override by model", `{"overrides":[{"models":["a"],"limit":1}]}`, "overrides[0]: unknown key models"},
		{"a wrong pattern", `{"overrides":[{"keys":["*a"],"limit":1}]}`, "a * stands before the end"},
		{"wrong tokens", `{"bytes_per_token":65}`, "bytes_per_token must be a whole number from 0 to 64"},
		{"a wrong cut", `{"cut":1}`, "cut must be true or false"},
		{"whole", config + `,"bytes_per_token":3,"cut":false}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := new(quota).configure([]byte(tt.config))
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestWindow(t *testing.T) {
	seoul := time.FixedZone("", 9*3600)
	st := time.FixedZone("", -(3*3600 + 30*60))
	tests := []struct {
		name, offset string
		now          time.Time
		start, end   time.Time
	}{
		{"minute", "UTC", time.Date(2026, 1, 1, 0, 0, 59, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC)},
		{"hour", "-03:30", time.Date(2026, 1, 1, 5, 10, 0, 0, st), time.Date(2026, 1, 1, 5, 0, 0, 0, st), time.Date(2026, 1, 1, 6, 0, 0, 0, st)},
		{"day", "+09:00", time.Date(2026, 3, 1, 0, 0, 0, 0, seoul), time.Date(2026, 3, 1, 0, 0, 0, 0, seoul), time.Date(2026, 3, 2, 0, 0, 0, 0, seoul)},
		{"day", "+09:00", time.Date(2026, 3, 1, 23, 59, 59, 0, seoul), time.Date(2026, 3, 1, 0, 0, 0, 0, seoul), time.Date(2026, 3, 2, 0, 0, 0, 0, seoul)},
		{"month", "UTC", time.Date(2028, 2, 29, 12, 0, 0, 0, time.UTC), time.Date(2028, 2, 1, 0, 0, 0, 0, time.UTC), time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC)},
		{"month", "+09:00", time.Date(2026, 12, 31, 23, 0, 0, 0, seoul), time.Date(2026, 12, 1, 0, 0, 0, 0, seoul), time.Date(2027, 1, 1, 0, 0, 0, 0, seoul)},
		{"month", "-03:30", time.Date(2100, 2, 28, 23, 0, 0, 0, st), time.Date(2100, 2, 1, 0, 0, 0, 0, st), time.Date(2100, 3, 1, 0, 0, 0, 0, st)},
	}
	for _, tt := range tests {
		offset, err := parseOffset(tt.offset)
		if err != nil {
			t.Fatal(err)
		}
		w := window{tt.name, offset}
		start, end := w.around(tt.now.UnixMilli())
		if start != tt.start.UnixMilli() || end != tt.end.UnixMilli() {
			t.Errorf("%s around %s: got %s to %s", tt.name, tt.now, w.append(nil, start), w.append(nil, end))
		}
	}
	for _, s := range []string{"", "+9:00", "09:00", "+15:00", "+09:60", "+0a:00", "utc"} {
		if _, err := parseOffset(s); err == nil {
			t.Errorf("%q is an offset", s)
		}
	}
}

// FuzzWindow agrees with package time about when windows begin and end, and how times are written.
func FuzzWindow(f *testing.F) {
	f.Add(noon, int16(540))
	f.Add(int64(951782400000), int16(-210))
	f.Fuzz(func(t *testing.T, now int64, minutes int16) {
		now, minutes = now&(1<<43-1), minutes%(14*60) // to the year 2248
		zone := time.FixedZone("", int(minutes)*60)
		at := time.UnixMilli(now).In(zone)
		y, m, d := at.Date()
		for name, want := range map[string][2]time.Time{
			"minute": {time.Date(y, m, d, at.Hour(), at.Minute(), 0, 0, zone), time.Date(y, m, d, at.Hour(), at.Minute()+1, 0, 0, zone)},
			"hour":   {time.Date(y, m, d, at.Hour(), 0, 0, 0, zone), time.Date(y, m, d, at.Hour()+1, 0, 0, 0, zone)},
			"day":    {time.Date(y, m, d, 0, 0, 0, 0, zone), time.Date(y, m, d+1, 0, 0, 0, 0, zone)},
			"month":  {time.Date(y, m, 1, 0, 0, 0, 0, zone), time.Date(y, m+1, 1, 0, 0, 0, 0, zone)},
		} {
			w := window{name, int64(minutes) * minute}
			start, end := w.around(now)
			if start != want[0].UnixMilli() || end != want[1].UnixMilli() || start > now || end <= now {
				t.Errorf("%s around %s: got %s to %s", name, at, w.append(nil, start), w.append(nil, end))
			}
			if got, want := string(w.append(nil, now)), at.Format(time.RFC3339); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	})
}

// FuzzAmount reads numbers exactly or not at all, and writes them as they were meant.
func FuzzAmount(f *testing.F) {
	for _, s := range []string{"0", "1.5", "0.000001", "1000000000", "1e6", "-1", "1.", "00.1", "0.0000001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAmount(s)
		if err != nil || !json.Valid([]byte(s)) {
			return
		}
		want, ok := new(big.Rat).SetString(s)
		if !ok || want.Cmp(big.NewRat(int64(a), unit)) != 0 {
			t.Fatalf("%q is read as %d", s, a)
		}
		if again, err := parseAmount(a.String()); err != nil || again != a {
			t.Errorf("%q is written as %q", s, a.String())
		}
	})
}

// FuzzState: what a label says comes back as it was, and nothing else is believed.
func FuzzState(f *testing.F) {
	f.Add("12500000/1758380400")
	f.Add("1/2/3")
	f.Fuzz(func(t *testing.T, label string) {
		s, ok := parseState([]byte(label))
		if !ok {
			return
		}
		if again, ok := parseState([]byte(s.String())); !ok || again != s {
			t.Errorf("%q is %+v, then %+v", label, s, again)
		}
	})
}

// FuzzBooks: whatever calls use, the counter is what settled calls cost.
func FuzzBooks(f *testing.F) {
	f.Add([]byte{10, 20, 3, 200, 40, 0, 255, 255, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		h := newHost()
		q := quotaOf(t, strings.Replace(config, `"limit":10,`, `"limit":1000000,`, 1)+`,"cut":true}`)
		sum := amount(0)
		for ; len(b) >= 3; b = b[3:] {
			call := nexus.Call{Tenant: "a", Model: "large", MaxTokens: int64(b[0]), Bytes: int(b[1])}
			ask(t, q, &call)
			h.Labels = map[string]string{}
			prompt, completion := int64(b[1])*8, int64(b[2])*4
			use(t, q, h, nexus.Used{Call: call, Prompt: prompt, Completion: completion / 2})
			if b[0]%3 > 0 {
				use(t, q, h, nexus.Used{Call: call, Final: true, Prompt: prompt, Completion: completion})
			}
			over(t, q, h, nexus.Ended{Used: nexus.Used{Call: call, Prompt: prompt, Completion: completion}, Status: 200})
			sum += q.weights[0].cost(prompt, 0, completion)
		}
		if sum > 0 && counter(t, h) != int64(sum) {
			t.Errorf("counted %d, want %d", counter(t, h), sum)
		}
	})
}

func TestCostIsBounded(t *testing.T) {
	w := weights{request: maxWeight, prompt: maxWeight, cached: 1, completion: maxWeight}
	if got := w.cost(1<<62, 1<<61, 1<<62); got != maxAmount {
		t.Errorf("got %d", got)
	}
	if got := w.cost(-1, -1, -1); got != maxWeight {
		t.Errorf("got %d", got)
	}
}
