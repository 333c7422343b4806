package plugin

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// ratings is a server that a plugin asks.
func ratings(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Set-Cookie", "id=1")
		w.Header().Set("X-Other", "not passed on")
		fmt.Fprintf(w, "%s %s %s %d", r.Method, r.Header.Get("X-Asked"), r.UserAgent(), len(b))
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/echo", http.StatusFound) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(3 * time.Second):
		}
	})
	mux.HandleFunc("/drip", func(w http.ResponseWriter, r *http.Request) {
		for range 100 {
			fmt.Fprint(w, "x")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(30 * time.Millisecond):
			}
		}
	})
	mux.HandleFunc("/size/{n}", func(w http.ResponseWriter, r *http.Request) {
		var n int
		_, _ = fmt.Sscan(r.PathValue("n"), &n)
		_, _ = io.WriteString(w, strings.Repeat("y", n))
	})
	mux.HandleFunc("/cookie", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, len(r.Cookies())) })
	mux.HandleFunc("/teapot", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestHTTPCall(t *testing.T) {
	s := ratings(t)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	e := granted()
	e.HTTP = HTTP{Hosts: []string{s.Listener.Addr().String()}, Timeout: 200 * time.Millisecond, MaxRequest: 5000, MaxResponse: 1000}
	k := newHosts(t, e)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	const away, barred = "the request was not answered in time, or by too much", "the configuration does not let the plugin ask there"
	for _, tt := range []struct{ order, want string }{
		{"GET|" + s.URL + "/echo", "200 content-type=text/plain GET  nexus 0"},
		{"|" + s.URL + "/echo", "200 content-type=text/plain GET  nexus 0"},
		{"POST|" + s.URL + "/echo|X-Asked|yes|4000", "200 content-type=text/plain POST yes nexus 4000"},
		{"GET|" + s.URL + "/echo|User-Agent|mine", "200 content-type=text/plain GET  mine 0"},
		{"POST|" + s.URL + "/echo|||5000", barred},
		{"GET|" + s.URL + "/away", "302 content-type=text/html; charset=utf-8 location=/echo <a href=\"/echo\">Found</a>.\n\n"},
		{"GET|" + s.URL + "/teapot", "418 "},
		{"GET|" + s.URL + "/size/1000", "200 content-type=text/plain; charset=utf-8 " + strings.Repeat("y", 1000)},
		{"GET|" + s.URL + "/size/1001", away},
		{"GET|" + s.URL + "/size/9000000", away},
		{"GET|" + s.URL + "/slow", away},
		{"GET|" + s.URL + "/drip", away},
		{"GET|http://localhost:" + port + "/echo", barred},
		{"GET|http://127.0.0.1/echo", barred},
		{"GET|http://[::ffff:127.0.0.1]:" + port + "/echo", barred},
		{"GET|http://127.0.0.1.:" + port + "/echo", barred},
		{"GET|https://" + s.Listener.Addr().String() + "/echo", away}, // no TLS there
	} {
		t.Run(tt.order[:min(40, len(tt.order))], func(t *testing.T) {
			began := time.Now()
			got, err := k.order(t, someCall(t), "http|"+tt.order, false)
			checkOrder(t, got, err, tt.want)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	for range 2 {
		got, err := k.order(t, someCall(t), "http|GET|"+s.URL+"/cookie", false)
		checkOrder(t, got, err, "200 content-type=text/plain; charset=utf-8 0")
	}
}

// TestHTTPWithinTheDeadline: what is left of the plugin's time bounds a request, and a caller who leaves ends it.
func TestHTTPWithinTheDeadline(t *testing.T) {
	s := ratings(t)
	e := granted()
	e.Deadline = 100 * time.Millisecond
	e.HTTP = HTTP{Hosts: []string{s.Listener.Addr().String()}, Timeout: 5 * time.Second}
	k := newHosts(t, e)
	began := time.Now()
	if _, err := k.order(t, someCall(t), "http|GET|"+s.URL+"/slow;spin", false); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	e.Deadline = 5 * time.Second
	k = newHosts(t, e)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	began = time.Now()
	var a answer
	_ = k.plugin.ask(ctx, &turn{call: someCall(t)}, piece{text: []byte("http|GET|" + s.URL + "/slow"), flags: abi.FlagFinal}, &a)
	if took := time.Since(began); took > time.Second {
		t.Errorf("after its caller had left it asked for %v", took)
	}
}

func TestHTTPValidate(t *testing.T) {
	p := setting.NewProblems()
	c := HTTP{Hosts: []string{"ok.internal:80", "[::1]:80", "none", "http://x:80", ":80", "x:0", "x:99999", "x:http"}, Timeout: time.Minute, MaxRequest: 2 << 20, MaxResponse: -1}
	c.Validate(p)
	var paths []string
	for _, one := range p.All() {
		paths = append(paths, one.Path)
	}
	if got, want := strings.Join(paths, " "), "hosts[2] hosts[3] hosts[4] hosts[5] hosts[6] hosts[7] timeout max_request max_response"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, tt := range []struct {
		e    Entry
		want string
	}{
		{Entry{Name: "p", Capabilities: []string{"http_call"}}, "the capability http_call is granted, but no server is listed"},
		{Entry{Name: "p", HTTP: HTTP{Hosts: []string{"x:80"}}}, "lists servers, but the capability http_call is not granted"},
		{Entry{Name: "p", Isolation: "nobody"}, `"nobody": write tenant or none`},
	} {
		p := setting.NewProblems()
		tt.e.validate(p)
		if got := fmt.Sprint(p.All()); !strings.Contains(got, tt.want) {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

// FuzzAsk reads any bytes as a request: whatever is taken names a server, and none of the headers that frame it.
func FuzzAsk(f *testing.F) {
	record := func(id uint16, name, value string) string { return string(appendRecord(nil, id, name, value)) }
	f.Add([]byte(record(abi.HTTPURL, "", "http://a:1/b?c") + record(abi.HTTPHeader, "A", "b") + record(abi.HTTPBody, "", "x")))
	f.Add([]byte(record(abi.HTTPMethod, "", "PUT") + record(abi.HTTPURL, "", "https://[::1]/")))
	f.Add(binary.LittleEndian.AppendUint32([]byte{2, 0, 0xff, 0xff}, 0xffffffff))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readAsk(b)
		if err != nil {
			return
		}
		if r.URL.Host == "" || r.URL.User != nil || r.Host != r.URL.Host {
			t.Errorf("the URL %v was taken", r.URL)
		}
		for name := range r.Header {
			if framing(name) {
				t.Errorf("the header %q was taken", name)
			}
		}
		if u, err := url.Parse(r.URL.String()); err != nil || u.Hostname() != r.URL.Hostname() {
			t.Errorf("%v reads back as %v, %v", r.URL, u, err)
		}
	})
}
