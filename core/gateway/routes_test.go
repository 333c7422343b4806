package gateway

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nexus-gateway/nexus/core/auth"
	"github.com/nexus-gateway/nexus/core/llm"
)

// TestEveryRouteWantsAKey walks the routes of the data listener with every wrong way to show a credential (trust
// S-11): each is 401, nothing else is reachable, and no backend hears of it.
func TestEveryRouteWantsAKey(t *testing.T) {
	var heard atomic.Int64
	backend := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { heard.Add(1) }))
	defer backend.Close()
	dir := t.TempDir()
	entries, keys := "", map[string]string{}
	for id, more := range map[string]string{"good": "", "disabled": "  disabled: true\n", "expired": "  expires: 2020-01-01T00:00:00Z\n"} {
		key, entry, err := auth.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		entry.ID, keys[id] = id, key
		entries += entry.Paste() + more
	}
	write(t, filepath.Join(dir, "keys.yaml"), entries)
	text := strings.Replace(fmt.Sprintf(minimal, backend.URL), "anonymous: true", "keys_file: keys.yaml", 1)
	text = strings.Replace(text, "kind: vllm", "kind: openai", 1) // which the gateway itself asks nothing
	write(t, filepath.Join(dir, "nexus.yaml"), text)
	_, address, _ := runFile(t, filepath.Join(dir, "nexus.yaml"))

	good := keys["good"]
	credentials := map[string]string{
		"none":                 "",
		"wrong":                "Authorization: Bearer nx-0000000000000000000000000000\r\n",
		"disabled":             "Authorization: Bearer " + keys["disabled"] + "\r\n",
		"expired":              "X-API-Key: " + keys["expired"] + "\r\n",
		"two headers":          "Authorization: Bearer " + good + "\r\nAuthorization: Bearer " + good + "\r\n",
		"two that differ":      "Authorization: Bearer " + good + "\r\nX-API-Key: nx-0000000000000000000000000000\r\n",
		"wrong, then right":    "Authorization: Bearer nx-0000000000000000000000000000\r\nX-API-Key: " + good + "\r\n",
		"another scheme":       "Authorization: Basic " + good + "\r\n",
		"no scheme":            "Authorization: " + good + "\r\n",
		"two in one":           "Authorization: Bearer " + good + ", Bearer " + good + "\r\n",
		"a space in it":        "Authorization: Bearer " + good[:8] + " " + good[8:] + "\r\n",
		"empty":                "Authorization: Bearer \r\n",
		"an underscore":        "X_API_Key: " + good + "\r\n",
		"shorter":              "Authorization: Bearer " + good[:len(good)-1] + "\r\n",
		"longer":               "Authorization: Bearer " + good + "0\r\n",
		"upper case":           "Authorization: Bearer " + strings.ToUpper(good) + "\r\n",
		"a cookie":             "Cookie: api_key=" + good + "\r\n",
		"a proxy's":            "Proxy-Authorization: Bearer " + good + "\r\n",
		"hop by hop":           "Connection: Authorization\r\nAuthorization: Bearer nx-0000\r\n",
		"a trusted proxy's":    "X-Forwarded-User: good\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n",
		"a health probe":       "User-Agent: kube-probe/1.30\r\n",
		"a preflight's origin": "Origin: http://127.0.0.1\r\nAccess-Control-Request-Headers: authorization\r\n",
	}
	routes := map[string]string{"/v1/models": http.MethodGet, "/v1/models/mock": http.MethodGet}
	for _, e := range llm.WithBody {
		routes[e.Path()] = http.MethodPost
	}
	for path, method := range routes {
		for name, header := range credentials {
			want := http.StatusUnauthorized
			if name == "an underscore" { // refused for its name, before it is asked what it holds
				want = http.StatusBadRequest
			}
			if status := raw(t, address, method, path, header); status != want {
				t.Errorf("%s %s, %s: %d", method, path, name, status)
			}
		}
		for _, query := range []string{"?api_key=", "?key=", "?access_token="} {
			if status := raw(t, address, method, path+query+good, ""); status != http.StatusUnauthorized && status != http.StatusBadRequest {
				t.Errorf("%s %s%s: %d", method, path, query, status)
			}
		}
	}
	for _, path := range []string{"/", "/metrics", "/status", "/reload", "/live", "/ready", "/health", "/debug/pprof/", "/v1", "/v1/", "/v2/models", "/v1/files", "/v1/chat/completions/",
		"/v1/chat/completions/x", "//v1/chat/completions", "/v1//chat/completions", "/v1/../metrics", "/v1/models/../../metrics", "/%2e%2e/metrics", "/v1/chat%2fcompletions", "/invocations", "/generate",
		"/v1/load_lora_adapter", "/mock/script", "/v1/proxy/chat/completions", "/openapi.json", "/server_info", "/flush_cache"} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodHead, http.MethodConnect, http.MethodTrace} {
			for name, header := range map[string]string{"none": "", "good": "Authorization: Bearer " + good + "\r\n"} {
				status := raw(t, address, method, path, header)
				model := strings.HasPrefix(path, "/v1/models/") // a name may hold anything, and is then unknown
				if status != http.StatusNotFound && status != http.StatusMethodNotAllowed && status != http.StatusBadRequest && !(model && status == http.StatusUnauthorized) {
					t.Errorf("%s %s with %s credential: %d", method, path, name, status)
				}
			}
		}
	}
	if n := heard.Load(); n != 0 {
		t.Errorf("the backend heard %d of it", n)
	}
	t.Logf("%d routes, %d wrong credentials", len(routes), len(credentials))
}

// raw sends a request as it is written and returns the status of the answer.
func raw(t *testing.T, address, method, path, header string) int {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := ""
	if method == http.MethodPost {
		body = `{"model":"mock","messages":[{"role":"user","content":"x"}],"prompt":"x","input":"x","query":"x","documents":["x"],"text_1":"x","text_2":"x"}`
	}
	if !strings.Contains(header, "Connection:") {
		header += "Connection: close\r\n"
	}
	_, _ = fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", method, path, address, len(body), header, body)
	response, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	return response.StatusCode
}
