package mock

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// discard is a ResponseWriter that keeps nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Flush()                      {}

func serveOnce(s *Server, body string) {
	r := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	s.ServeHTTP(&discard{http.Header{}}, r)
}

func BenchmarkWhole(b *testing.B) {
	s, err := New(Options{Record: -1})
	if err != nil {
		b.Fatal(err)
	}
	body := strings.Replace(hello, "hello", strings.Repeat("plain text ", 90), 1)
	b.ReportAllocs()
	for b.Loop() {
		serveOnce(s, body)
	}
}

func BenchmarkStream1000(b *testing.B) {
	s, err := New(Options{Record: -1, Tokens: 1000})
	if err != nil {
		b.Fatal(err)
	}
	body := with(hello, `"stream":true`)
	b.ReportAllocs()
	for b.Loop() {
		serveOnce(s, body)
	}
}

// TestEventsMakeNoGarbage holds the promise that lets one mock feed thousands of streams.
func TestEventsMakeNoGarbage(t *testing.T) {
	s, err := New(Options{Record: -1})
	if err != nil {
		t.Fatal(err)
	}
	allocs := func(tokens string) float64 {
		body := strings.Replace(with(hello, `"stream":true`), "hello", "[[mock tokens="+tokens+"]]", 1)
		return testing.AllocsPerRun(20, func() { serveOnce(s, body) })
	}
	few, many := allocs("100"), allocs("5100")
	if each := (many - few) / 5000; each > 0.01 {
		t.Errorf("%.3f allocations an event (%v for 100, %v for 5100)", each, few, many)
	}
}

// TestHammer changes all that can be changed while everything is asked.
func TestHammer(t *testing.T) {
	s, url := start(t, Options{Slots: 8, Prefill: time.Nanosecond, Cache: 4})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 30 {
				switch i {
				case 0:
					_ = s.SetScript("fault=status=500;once")
				case 1:
					_, _ = s.Requests(), s.Stats()
				case 2:
					s.SetHealth(200)
					s.Forget()
				default:
					resp, _, err := ask(t, url+"/v1/chat/completions", with(hello, `"stream":true`))
					if err != nil || resp.StatusCode != 200 && resp.StatusCode != 500 {
						t.Errorf("%v %v", resp, err)
					}
				}
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Requests != 150 || st.Running != 0 || st.Waiting != 0 || st.Done+st.Refused != 150 {
		t.Errorf("stats %+v, want 150 calls", st)
	}
}
