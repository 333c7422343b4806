package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// canaries are fifty secrets of the kinds that pass through a gateway, each told by its number.
func canaries() []string {
	forms := []string{
		"sk-nexus-canary%02d", "Bearer eyJhbGciOiJIUzI1NiJ9.canary%02d.sig", "session=canary%02d; Path=/",
		"-----BEGIN PRIVATE KEY-----\ncanary%02d\n-----END PRIVATE KEY-----", "redis://:canary%02d@cache:6379/0",
		"my social security number is canary%02d", "AKIACANARY canary%02d", "주민등록번호 canary%02d",
		"https://user:canary%02d@backend/v1", "hunter2 canary%02d",
	}
	list := make([]string, 50)
	for i := range list {
		list[i] = fmt.Sprintf(forms[i%len(forms)], i)
	}
	return list
}

// plant hides the secrets wherever a call has room for what no log may hold.
func plant(s []string) *pipeline.Call {
	c := newCall()
	c.Path, c.Query, c.Method = "/v1/"+s[0], "key="+s[0], s[1]
	c.Header = http.Header{
		"Authorization": {s[2]}, "X-Api-Key": {s[3]}, "Cookie": {s[4]}, "Proxy-Authorization": {s[5]}, "User-Agent": {s[6]},
		"Referer": {s[7]}, "X-Forwarded-For": {s[8]}, "Baggage": {s[9]}, "Tracestate": {s[10]}, "Traceparent": {s[11]}, s[12]: {s[13]},
	}
	c.Request.Body = []byte(`{"messages":[{"content":"` + s[14] + `"}]}`)
	c.Request.User, c.Request.Tools = s[15], []string{s[16]}
	c.Principal = &pipeline.Principal{ID: "key-1", Tenant: "acme", Team: s[17], Labels: map[string]string{s[18]: s[19]}, Roles: []string{s[20]}}
	c.Labels = map[string]string{s[21]: s[22]}
	c.PII = pipeline.Findings{Count: 1, Kinds: []string{s[23]}}
	c.Edits = []pipeline.TextEdits{{Edits: []llm.Edit{{With: []byte(s[24])}}}}
	c.Headers = http.Header{s[25]: {s[26]}}
	c.Decision.Reason, c.Decision.Headers = s[27], map[string]string{s[28]: s[29]}
	c.Decision.Tags, c.Decision.Deny = map[string]string{s[30]: s[31]}, pipeline.Deny{Message: s[32]}
	c.Decision.Limits = []pipeline.Limit{{Key: s[33]}}
	return c
}

// endings are the ways a call may end with a secret in hand; each uses s[34:].
func endings(tracer pipeline.Tracer, s []string) []pipeline.Handler {
	refusal := &pipeline.Refusal{
		Stage: "upstream", Code: "backend_error", Reason: s[34], Param: s[35],
		Header: map[string]string{s[36]: s[37]}, Err: fmt.Errorf("dial %s: %w", s[38], errors.New(s[39])),
	}
	reply := func(ctx context.Context, c *pipeline.Call) (*llm.Reply, error) {
		_, end := tracer(ctx, c, "gpu-1")
		end(errors.New(s[40]))
		r, err := backendOf(events(fmt.Errorf("read: %s", s[41]), s[42], s[43]))(ctx, c)
		r.Header = http.Header{"Set-Cookie": {s[44]}, s[45]: {s[46]}}
		return r, err
	}
	return []pipeline.Handler{
		failing(refusal), failing(errors.New(s[47])), pipeline.HandlerFunc(reply),
		pipeline.HandlerFunc(func(context.Context, *pipeline.Call) (*llm.Reply, error) { panic(s[48]) }),
	}
}

// TestNoSecretsTold: no secret reaches the access log, the metrics, the spans or the gateway's own log (A19).
func TestNoSecretsTold(t *testing.T) {
	var own bytes.Buffer
	was := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&own, nil)))
	defer slog.SetDefault(was)
	r, secrets := newReceiver(t), canaries()
	var out bytes.Buffer
	tel := newTraced(t, r.URL, func(c *Traces) { c.Headers = map[string]setting.Secret{"X-Key": setting.NewSecret(secrets[49])} })
	tel.log = newSink(&out, nil, 1<<20, tel.metrics.dropped)
	calls := endings(tel.Tracer(), secrets)
	for _, next := range calls {
		func() {
			defer func() { recover() }()
			drain(tel.Handle(context.Background(), plant(secrets), next))
		}()
	}
	lines := logged(t, tel, &out)
	_, scrape := seriesOf(t, tel)
	if len(lines) != len(calls) || len(r.spans) < len(calls) || !strings.Contains(scrape, "gateway_requests_total") {
		t.Fatalf("%d lines and %d spans of %d calls: the test has nothing to search", len(lines), len(r.spans), len(calls))
	}
	told := map[string]string{"access log": out.String(), "metrics": scrape, "spans": r.raw.String(), "own log": own.String()}
	for i := range secrets {
		for where, text := range told {
			if strings.Contains(text, fmt.Sprintf("canary%02d", i)) {
				t.Errorf("secret %d is in the %s", i, where)
			}
		}
	}
}

func FuzzHostileCall(f *testing.F) {
	for _, text := range breakers {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var out bytes.Buffer
		tel, err := New(Config{AccessLog: "off"}, "test")
		if err != nil {
			t.Fatal(err)
		}
		tel.log = newSink(&out, nil, 1<<20, tel.metrics.dropped)
		c, next := hostile(text)
		drain(tel.Handle(context.Background(), c, next))
		if lines := logged(t, tel, &out); len(lines) != 1 {
			t.Errorf("%q makes %d lines", text, len(lines))
		}
	})
}
