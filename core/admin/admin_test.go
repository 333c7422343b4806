package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/nexus-gateway/nexus/core/setting"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "0123456789abcdef0123"

// A desk is a Face whose answers a test sets.
type desk struct {
	mu      sync.Mutex
	ready   error
	reload  error
	reloads int64
}

func (d *desk) face() Face {
	return Face{
		Ready: func() error { d.mu.Lock(); defer d.mu.Unlock(); return d.ready },
		Status: func() any {
			return map[string]any{"version": "test", "generation": 7, "backend_key": setting.NewSecret("canary")}
		},
		Reload: func(context.Context) (int64, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.reloads++
			return d.reloads, d.reload
		},
		Rollback: func(_ context.Context, by string) (any, error) {
			if host, _, err := net.SplitHostPort(by); err != nil || host != "127.0.0.1" {
				return nil, fmt.Errorf("asked by %q", by)
			}
			return map[string]string{"revision": "before"}, nil
		},
		Resume:  func(context.Context, string) (any, error) { return nil, errors.New("one\ntwo") },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "up 1\n") }),
	}
}

// serve runs an Admin on a socket of its own and returns its address.
func serve(t *testing.T, cfg Config, face Face, network string) string {
	t.Helper()
	l, err := net.Listen("tcp", network)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	a := New(cfg, face)
	go func() { ended <- a.Run(ctx, l) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "127.0.0.1:" + port
}

// ask sends one request; header holds name, value pairs, of which Host is the request's.
func ask(t *testing.T, method, url string, header ...string) (*http.Response, map[string]any) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Add(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	var body map[string]any
	if strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") && method != "HEAD" {
		if err := json.Unmarshal(text, &body); err != nil {
			t.Errorf("%s %s: %q: %v", method, url, text, err)
		}
		return response, body
	}
	return response, map[string]any{"text": string(text)}
}

func TestRoutes(t *testing.T) {
	d := &desk{}
	at := "http://" + serve(t, Config{}, d.face(), "127.0.0.1:0")
	tests := []struct {
		method, path string
		status       int
		key          string
		want         any
	}{
		{"GET", "/live", 200, "live", true},
		{"HEAD", "/live", 200, "", nil},
		{"GET", "/ready", 200, "ready", true},
		{"GET", "/metrics", 200, "text", "up 1\n"},
		{"GET", "/status", 200, "generation", 7.0},
		{"GET", "/status", 200, "backend_key", "[redacted]"},
		{"POST", "/reload", 200, "generation", 1.0},
		{"GET", "/reload", 405, "error", "this path takes POST"},
		{"POST", "/policy/rollback", 200, "revision", "before"},
		{"POST", "/policy/resume", 409, "error", "the policy in force stays"},
		{"GET", "/policy/rollback", 405, "error", "this path takes POST"},
		{"POST", "/status", 405, "error", "this path takes GET, HEAD"},
		{"DELETE", "/live", 405, "error", "this path takes GET, HEAD"},
		{"GET", "/", 404, "error", "there is nothing here"},
		{"GET", "/status/", 404, "error", "there is nothing here"},
		{"GET", "//status", 404, "error", "there is nothing here"},
		{"GET", "/live/../status", 404, "error", "there is nothing here"},
		{"GET", "/%73tatus/x", 404, "error", "there is nothing here"},
		{"GET", "/debug/pprof/", 404, "error", "there is nothing here"},
		{"GET", "/debug/pprof/heap", 404, "error", "there is nothing here"},
		{"GET", "/v1/models", 404, "error", "there is nothing here"},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			response, body := ask(t, tt.method, at+tt.path)
			if response.StatusCode != tt.status || tt.key != "" && body[tt.key] != tt.want {
				t.Errorf("got %d %v, want %d with %s %v", response.StatusCode, body, tt.status, tt.key, tt.want)
			}
			if response.Header.Get("X-Content-Type-Options") != "nosniff" || response.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("headers %v", response.Header)
			}
			if allow := response.Header.Get("Allow"); (allow != "") != (tt.status == 405) {
				t.Errorf("Allow is %q", allow)
			}
		})
	}
}

func TestReady(t *testing.T) {
	d := &desk{ready: errors.New("stopping: streams are ending")}
	at := "http://" + serve(t, Config{}, d.face(), "127.0.0.1:0")
	response, body := ask(t, "GET", at+"/ready")
	if response.StatusCode != 503 || body["reason"] != "stopping: streams are ending" || body["ready"] != false {
		t.Errorf("got %d %v", response.StatusCode, body)
	}
	if response, _ := ask(t, "GET", at+"/live"); response.StatusCode != 200 {
		t.Errorf("not ready is not alive: %d", response.StatusCode)
	}
}

func TestReloadRefused(t *testing.T) {
	d := &desk{reload: errors.Join(errors.New(`nexus.yaml:3: backends.gpu: no such key "ulr"`), errors.New("nexus.yaml:9: quota: is negative"))}
	at := "http://" + serve(t, Config{}, d.face(), "127.0.0.1:0")
	response, body := ask(t, "POST", at+"/reload")
	want := []any{`nexus.yaml:3: backends.gpu: no such key "ulr"`, "nexus.yaml:9: quota: is negative"}
	if response.StatusCode != 422 || fmt.Sprint(body["problems"]) != fmt.Sprint(want) {
		t.Errorf("got %d %v, want 422 and %v", response.StatusCode, body, want)
	}
}

func TestStatusThatIsNoJSON(t *testing.T) {
	face := (&desk{}).face()
	face.Status = func() any { return make(chan int) }
	at := "http://" + serve(t, Config{}, face, "127.0.0.1:0")
	if response, body := ask(t, "GET", at+"/status"); response.StatusCode != 500 || body["error"] == nil {
		t.Errorf("got %d %v", response.StatusCode, body)
	}
}

// TestPages is what a web page in the operator's browser can try (S-15).
func TestPages(t *testing.T) {
	d := &desk{}
	host := serve(t, Config{Hosts: []string{"nexus-admin.internal"}}, d.face(), "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(host)
	tests := []struct {
		name   string
		header []string
		want   int
	}{
		{"no page", nil, 200},
		{"localhost", []string{"Host", "LocalHost:" + port}, 200},
		{"IPv6", []string{"Host", "[::1]:" + port}, 200},
		{"another IP, as a probe names it", []string{"Host", "10.1.2.3"}, 200},
		{"configured name", []string{"Host", "Nexus-Admin.internal:9090"}, 200},
		{"rebound name", []string{"Host", "evil.example:" + port}, 421},
		{"rebound name that looks local", []string{"Host", "localhost.evil.example"}, 421},
		{"rebound name that looks like an IP", []string{"Host", "127.0.0.1.nip.io"}, 421},
		{"own origin", []string{"Origin", "http://" + host}, 200},
		{"other origin", []string{"Origin", "https://evil.example"}, 403},
		{"other port", []string{"Origin", "http://127.0.0.1:1"}, 403},
		{"sandboxed page", []string{"Origin", "null"}, 403},
		{"two origins", []string{"Origin", "http://" + host, "Origin", "http://evil.example"}, 403},
		{"cross-site", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"same site, other origin", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"typed by hand", []string{"Sec-Fetch-Site", "none"}, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := d.reloads
			response, _ := ask(t, "POST", "http://"+host+"/reload", tt.header...)
			if response.StatusCode != tt.want {
				t.Errorf("got %d, want %d", response.StatusCode, tt.want)
			}
			if done := d.reloads != before; done != (tt.want == 200) {
				t.Errorf("reloaded: %v", done)
			}
			if response, _ := ask(t, "GET", "http://"+host+"/nothing", tt.header...); tt.want != 200 && response.StatusCode != tt.want {
				t.Errorf("a path that is not there: got %d, want %d", response.StatusCode, tt.want)
			}
		})
	}
}

func TestToken(t *testing.T) {
	d := &desk{}
	open := serve(t, Config{}, d.face(), "0.0.0.0:0")
	shut := serve(t, Config{Token: setting.NewSecret(token), Pprof: true}, d.face(), "127.0.0.1:0")
	none := serve(t, Config{Pprof: true}, d.face(), "127.0.0.1:0")
	bearer := func(s string) []string { return []string{"Authorization", s} }
	tests := []struct {
		name, method, at, path string
		header                 []string
		want                   int
	}{
		{"open listener, probe", "GET", open, "/live", nil, 200},
		{"open listener, scrape", "GET", open, "/metrics", nil, 200},
		{"open listener, reload", "POST", open, "/reload", nil, 403},
		{"open listener, status", "GET", open, "/status", nil, 403},
		{"probe needs no token", "GET", shut, "/ready", nil, 200},
		{"no token", "POST", shut, "/reload", nil, 401},
		{"no token, rollback", "POST", shut, "/policy/rollback", nil, 401},
		{"no token, resume", "POST", shut, "/policy/resume", nil, 401},
		{"open listener, rollback", "POST", open, "/policy/rollback", nil, 403},
		{"wrong token", "POST", shut, "/reload", bearer("Bearer wrong"), 401},
		{"empty token", "POST", shut, "/reload", bearer("Bearer "), 401},
		{"prefix of the token", "POST", shut, "/reload", bearer("Bearer " + token[:19]), 401},
		{"other scheme", "POST", shut, "/reload", bearer("Basic " + token), 401},
		{"token in the query", "POST", shut, "/reload?token=" + token, nil, 401},
		{"token", "POST", shut, "/reload", bearer("Bearer " + token), 200},
		{"scheme in lower case", "GET", shut, "/status", bearer("bearer " + token), 200},
		{"status", "GET", shut, "/status", nil, 401},
		{"profile", "GET", shut, "/debug/pprof/heap", nil, 401},
		{"profile with token", "GET", shut, "/debug/pprof/heap?debug=1", bearer("Bearer " + token), 200},
		{"command line", "GET", shut, "/debug/pprof/cmdline", bearer("Bearer " + token), 404},
		{"profile on loopback", "GET", none, "/debug/pprof/", nil, 200},
		{"goroutines on loopback", "GET", none, "/debug/pprof/goroutine?debug=1", nil, 200},
		{"no such profile", "GET", none, "/debug/pprof/nothing", nil, 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			response, body := ask(t, tt.method, "http://"+tt.at+tt.path, tt.header...)
			if response.StatusCode != tt.want {
				t.Errorf("got %d %v, want %d", response.StatusCode, body, tt.want)
			}
			if strings.Contains(fmt.Sprint(body, response.Header), token) {
				t.Error("the answer shows the token")
			}
		})
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"default", Config{Listen: "127.0.0.1:9090"}, ""},
		{"all", Config{Listen: ":9090", Token: setting.NewSecret(token), Hosts: []string{"a.internal"}}, ""},
		{"no port", Config{Listen: "127.0.0.1"}, "admin.listen"},
		{"short token", Config{Listen: ":1", Token: setting.NewSecret("admin")}, "admin.token"},
		{"token with a line end", Config{Listen: ":1", Token: setting.NewSecret(token + "\n")}, "admin.token"},
		{"host with a port", Config{Listen: ":1", Hosts: []string{"a:80"}}, "admin.hosts"},
		{"wild host", Config{Listen: ":1", Hosts: []string{"*.a"}}, "admin.hosts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, got := setting.NewProblems(), ""
			tt.cfg.Validate(p.In("admin"))
			for _, problem := range p.All() {
				got += problem.Path
				if strings.Contains(problem.Text, token) {
					t.Error("a problem shows the token")
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestIsLocal(t *testing.T) {
	for addr, want := range map[net.Addr]bool{
		&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}: true,
		&net.TCPAddr{IP: net.IPv6loopback}:       true,
		&net.UnixAddr{Name: "/run/nexus.sock"}:   true,
		&net.TCPAddr{IP: net.IPv4zero}:           false,
		&net.TCPAddr{IP: net.IPv6unspecified}:    false,
		&net.TCPAddr{}:                           false,
		&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}:  false,
		&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}: false,
	} {
		if got := isLocal(addr); got != want {
			t.Errorf("%v: got %v, want %v", addr, got, want)
		}
	}
}

// FuzzOwnHost: with no names configured only localhost and IP addresses pass, however they are written.
func FuzzOwnHost(f *testing.F) {
	for _, host := range []string{"localhost:9090", "[::1]:9090", "::1", "127.0.0.1", "evil.example", "localhost@evil", "[evil]", "127.0.0.1:x@evil", "[::1%25lo]:1", ""} {
		f.Add(host)
	}
	a := New(Config{}, (&desk{}).face())
	f.Fuzz(func(t *testing.T, hostport string) {
		if !a.ownHost(hostport) {
			return
		}
		u, err := url.Parse("http://" + hostport + "/")
		if err != nil || u.Host != hostport {
			t.Fatalf("%q passes and is no host: %v", hostport, err)
		}
		if host := u.Hostname(); !strings.EqualFold(host, "localhost") && net.ParseIP(host) == nil {
			t.Errorf("%q passes as this listener's own", hostport)
		}
	})
}
