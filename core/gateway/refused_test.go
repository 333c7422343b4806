package gateway

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRefusedRequestsAreLogged: what no route takes leaves a line and a count like any call.
func TestRefusedRequestsAreLogged(t *testing.T) {
	_, url := backend(t)
	log := filepath.Join(t.TempDir(), "access.log")
	text := strings.Replace(fmt.Sprintf(minimal, url), `access_log: "off"`, fmt.Sprintf("access_log: %q", log), 1)
	_, address, _ := run(t, text)
	for _, path := range []string{"/nope", "//v1/models", "/v1/chat/completions"} {
		response, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	want := []string{`"code":"unknown_url"`, `"code":"bad_request"`, `"code":"method_not_allowed"`}
	var lines []byte
	for deadline := time.Now().Add(2 * time.Second); strings.Count(string(lines), "\n") < len(want) && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		lines, _ = os.ReadFile(log)
	}
	for _, w := range want {
		if strings.Count(string(lines), w) != 1 {
			t.Errorf("%s stands in the log %d times:\n%s", w, strings.Count(string(lines), w), lines)
		}
	}
}
