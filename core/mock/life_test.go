package mock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// eventually waits until ok, within a second.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 200 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("never: " + what)
}

func TestAbortIsSeen(t *testing.T) {
	s, url := start(t, Options{Pace: 5 * time.Millisecond, Tokens: 10000})
	for i, body := range []string{with(hello, `"stream":true`), hello, with(hello, `"stream":true,"x":"[[mock fault=hang]]"`), with(hello, `"stream":true,"x":"[[mock fault=stall-after=1]]"`)} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		eventually(t, "running", func() bool { return s.Stats().Running == 1 })
		time.Sleep(10 * time.Millisecond)
		conn.Close()
		eventually(t, fmt.Sprintf("abort %d counted", i), func() bool { return s.Stats().Aborted == int64(i+1) && s.Stats().Running == 0 })
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	_, url := start(t, Options{KeepAlive: 50 * time.Millisecond})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
	began := time.Now()
	_ = conn.SetReadDeadline(began.Add(2 * time.Second))
	if _, err := io.Copy(io.Discard, bufio.NewReader(conn)); err != nil || time.Since(began) < 40*time.Millisecond {
		t.Errorf("closed after %v: %v", time.Since(began), err)
	}
}

func TestPaceAndPrefill(t *testing.T) {
	_, url := start(t, Options{Tokens: 5, Pace: 10 * time.Millisecond, Prefill: 200 * time.Microsecond})
	long := strings.Replace(hello, "hello", strings.Repeat("abc", 200), 1)
	for _, body := range []string{long, with(long, `"stream":true`)} {
		began := time.Now()
		if _, _, err := ask(t, url+"/v1/chat/completions", body); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 40*time.Millisecond {
			t.Errorf("took %v, less than four waits of 10ms", took)
		}
	}
	_, raw, _ := ask(t, url+"/v1/chat/completions", long)
	if !strings.Contains(raw, `"cached_tokens":192`) {
		t.Errorf("the third reading of one prompt has no 192 cached ids: %s", raw)
	}
}

func TestSlotsAndQueue(t *testing.T) {
	s, url := start(t, Options{Slots: 1, Queue: 1, Tokens: 20, Pace: 10 * time.Millisecond})
	statuses := make(chan int, 6)
	for range cap(statuses) {
		go func() {
			resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(hello))
			if err != nil {
				statuses <- 0
				return
			}
			resp.Body.Close()
			statuses <- resp.StatusCode
		}()
	}
	count := map[int]int{}
	for range cap(statuses) {
		count[<-statuses]++
	}
	if count[200] < 1 || count[200] > 3 || count[200]+count[503] != cap(statuses) {
		t.Errorf("statuses %v, want one or two 200 and else 503", count)
	}
	if st := s.Stats(); st.Running != 0 || st.Waiting != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestKillResetsConnections(t *testing.T) {
	s, err := New(Options{Pace: 5 * time.Millisecond, Tokens: 1000})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		resp, err := http.Post(p.URL+"/v1/chat/completions", "application/json", strings.NewReader(with(hello, `"stream":true`)))
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		ended <- err
	}()
	eventually(t, "running", func() bool { return s.Stats().Running == 1 })
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the stream ended well")
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Errorf("Close twice: %v", err)
	}
}

func TestRequestID(t *testing.T) {
	for _, echoed := range []bool{false, true} {
		_, url := start(t, Options{RequestIDs: echoed})
		resp, body, err := ask(t, url+"/v1/chat/completions", hello, "X-Request-Id", "abc")
		if err != nil || !strings.Contains(body, `"id":"chatcmpl-abc"`) || (resp.Header.Get("X-Request-Id") == "abc") != echoed {
			t.Errorf("%v %v %s", err, resp, body)
		}
	}
}

func TestManyPorts(t *testing.T) {
	s, _ := start(t, Options{})
	for range 3 {
		p, err := s.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := ask(t, p.URL+"/v1/chat/completions", hello); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Listen("nowhere:-1"); err == nil {
		t.Error("an impossible address was listened on")
	}
	if got := s.Stats().Done; got != 3 {
		t.Errorf("%d answered, want 3", got)
	}
}

func TestNoPrefillFault(t *testing.T) {
	_, url := start(t, Options{Script: "fault=no-prefill"})
	resp, body, err := ask(t, url+"/v1/chat/completions", `{"model":"mock","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"so"}]}`)
	if err != nil || resp.StatusCode != 400 || !strings.Contains(body, "prefill") {
		t.Errorf("%v %v %s", err, resp, body)
	}
}

func TestRunServesUntilTheEnd(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := false
	err = s.Run(ctx, []string{"127.0.0.1:0", "127.0.0.1:0"}, func(addrs []string) {
		for _, a := range addrs {
			resp, err := http.Get("http://" + a + "/health")
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("%v %v", resp, err)
				continue
			}
			resp.Body.Close()
			asked = true
		}
		cancel()
	})
	if err != nil || !asked {
		t.Errorf("Run: %v, asked %v", err, asked)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{{Kind: "triton"}, {Script: "tokens=many"}, {Script: "fault=die-after"}, {Script: "pace=-1s"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
