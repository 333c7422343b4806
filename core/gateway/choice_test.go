package gateway

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/mock"
)

// TestAPluginsModelIsCheckedAgain: a plugin that may choose the model cannot lead a key round its own list;
// a key without one gets what the plugin chose. Its files are watched although they lie in no plugins.dir.
func TestAPluginsModelIsCheckedAgain(t *testing.T) {
	s, err := mock.New(mock.Options{Models: []string{"mock", "m2"}, Tokens: 3})
	if err != nil {
		t.Fatal(err)
	}
	port, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	wasm, err := buildGuest("../plugin/testdata/echo")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	manifest := "name: echo\nversion: 1.0.0\nabi: 1\nhooks: [on_request]\ncapabilities: [model, headers, log]\ndeadline: 1s\n"
	write(t, filepath.Join(dir, "echo.wasm"), string(wasm))
	write(t, filepath.Join(dir, "echo.yaml"), manifest)
	text := strings.Replace(fmt.Sprintf(minimal, port.URL), "{anonymous: true}", fmt.Sprintf(
		"{keys: [{id: narrow, sha256: %x, tenant: a, models: [mock]}, {id: wide, sha256: %x, tenant: b}]}",
		sha256.Sum256([]byte("nx-narrow-key-00000000")), sha256.Sum256([]byte("nx-wide-key-0000000000"))), 1)
	text = strings.Replace(text, "models: [mock, mock-echo]", "models: [mock, m2]", 1) +
		fmt.Sprintf("plugins: {chain: [{name: echo, path: %q, capabilities: [model, headers, log]}]}\n", filepath.Join(dir, "echo.wasm"))
	g, address, _ := run(t, text)
	for _, tt := range []struct {
		key    string
		status int
		heard  int
	}{{"nx-narrow-key-00000000", 404, 0}, {"nx-wide-key-0000000000", 200, 1}} {
		request, _ := http.NewRequest(http.MethodPost, "http://"+address+"/v1/chat/completions", strings.NewReader(whole))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+tt.key)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if heard := s.Requests(); response.StatusCode != tt.status || len(heard) != tt.heard || tt.heard > 0 && !strings.Contains(heard[0].Body, `"model":"m2"`) {
			t.Errorf("%s: status %d, the backend heard %+v", tt.key, response.StatusCode, heard)
		}
	}
	generation := g.current.Load().generation
	write(t, filepath.Join(dir, "echo.yaml"), manifest+"# changed\n")
	for began := time.Now(); g.current.Load().generation == generation; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > 30*time.Second { // the race detector compiles for long
			t.Fatal("the plugin's files are not watched")
		}
	}
}
