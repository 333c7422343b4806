// Package assemblyscript has no Go of its own: this runs what the SDK is tested with.
package assemblyscript

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestSDK runs the SDK's own tests, which are Node's. Where the toolchain is missing, build says so.
func TestSDK(t *testing.T) {
	out, err := exec.Command("./build", "sample", filepath.Join(t.TempDir(), "sample.wasm")).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 3 {
		if os.Getenv("NEXUS_E2E") != "" {
			t.Fatalf("NEXUS_E2E wants every toolchain: %s", out)
		}
		t.Skipf("SKIPPED: %s", out)
	}
	if err != nil {
		t.Fatalf("build sample: %v\n%s", err, out)
	}
	if out, err = exec.Command("node", "--test").CombinedOutput(); err != nil {
		t.Fatalf("node --test: %v\n%s", err, out)
	}
}
