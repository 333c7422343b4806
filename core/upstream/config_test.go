package upstream

import (
	"testing"

	"github.com/nexus-gateway/nexus/core/setting"
)

// What a backend's headers may not say: where the request goes, and where it ends.
func TestConfiguredHeaders(t *testing.T) {
	for name, good := range map[string]bool{
		"X-Api-Version": true, "OpenAI-Organization": true, "Content-Length": false, "transfer-encoding": false,
		"Host": false, "X-A\r\nX-B": false, "": false, "X-Request-Id": false,
	} {
		b := BackendConfig{URL: "http://127.0.0.1:8000", Header: map[string]setting.Secret{name: {}}, Weight: 1, Health: usualHealth}
		p := setting.NewProblems()
		b.validate(p)
		if bad := len(p.All()) > 0; bad == good {
			t.Errorf("%q: %v", name, p.All())
		}
	}
}
