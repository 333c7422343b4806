package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// unanswering takes connections and says nothing on them.
func unanswering(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	stop := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); close(stop); serving.Wait() })
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { <-stop; _ = c.Close() })
		}
	})
	return l.Addr().String()
}

// A halting backend begins an answer and then says again and again what keeps it alive, until the gateway leaves; with
// nothing to begin with it does not even send headers.
func halting(t *testing.T, kind, begin, again string) (url string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			return
		}
		if kind != "" {
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, begin)
			_ = http.NewResponseController(w).Flush()
		}
		for again != "" && r.Context().Err() == nil {
			_, _ = io.WriteString(w, again)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(20 * time.Millisecond)
		}
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Each phase of a call has a bound of its own: the caller is told which one was overrun, in the status or, once the answer
// has begun, in the stream, and it is counted by its name.
func TestEachTimeoutIsTold(t *testing.T) {
	const (
		stream = "text/event-stream"
		event  = `data: {"choices":[{"index":0,"delta":{"content":"a"}}]}` + "\n\n"
	)
	silent := unanswering(t)
	rows := []struct {
		phase, timeouts, url, request, code string
		begun                               bool // the answer has, when it is given up
	}{
		{"connect", "connect: 100ms", "https://" + silent, whole, "backend_connect_timeout", false},
		{"headers", "headers: 100ms", halting(t, "", "", ""), streamed, "backend_headers_timeout", false},
		{"first_token", "first_token: 100ms, last_resort: 0s", halting(t, stream, ": wait\n\n", ": wait\n\n"), streamed, "first_token_timeout", false},
		{"answer", "answer: 100ms, last_answer: 0s", halting(t, "application/json", `{"choices":[`, " "), whole, "answer_timeout", false},
		{"between_tokens", "between_tokens: 100ms", halting(t, stream, event, ""), streamed, "between_tokens_timeout", true},
		{"total", "total: 2s", halting(t, stream, event, event), streamed, "total_timeout", true},
	}
	if os.Getenv("NEXUS_E2E") != "" { // the rate is taken over a minute
		rows = append(rows, rows[5])
		rows[6].phase, rows[6].timeouts, rows[6].code = "min_rate", "min_rate: 1000", "throughput_timeout"
	}
	for _, tt := range rows {
		t.Run(tt.phase, func(t *testing.T) {
			t.Parallel()
			text := strings.NewReplacer("kind: vllm", "kind: openai", "backends: [one]}", "backends: [one], timeouts: {"+tt.timeouts+"}}").Replace(fmt.Sprintf(minimal, tt.url))
			_, address, admin := run(t, text)
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			status, out, err := ask(client, address, tt.request)
			if tt.begun && err != io.ErrUnexpectedEOF || !tt.begun && err != nil { // an answer that broke off does not end as if it were whole
				t.Error(err)
			}
			if want := map[bool]int{true: http.StatusOK, false: http.StatusGatewayTimeout}[tt.begun]; status != want {
				t.Errorf("status %d, want %d", status, want)
			}
			if !strings.Contains(out, `"code":"`+tt.code+`"`) || strings.Count(out, `"error":{`) != 1 || strings.Contains(out, "[DONE]") || tt.begun != strings.HasPrefix(out, event) {
				t.Errorf("the caller is told %.300s … %s", out, out[max(len(out)-300, 0):])
			}
			_, metrics := fetch(t, "http://"+admin+"/metrics")
			const name = "gateway_upstream_timeouts_total"
			if want := fmt.Sprintf(`%s{backend="one",phase=%q} 1`, name, tt.phase); !strings.Contains(metrics, want+"\n") || metric(metrics, name) != 1 {
				t.Errorf("%s is not in the metrics, or not alone: %v are counted", want, metric(metrics, name))
			}
		})
	}
}
