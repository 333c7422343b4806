package plugin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// probePath is the plugin that does on demand all that a plugin can do.
const probePath = "../../sdk/go/probe"

func trial(t *testing.T, o TrialOptions) *Trial {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(probePath, "manifest.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	o.Decode, o.CacheDir, o.Deadline = decode, cacheDir(t), 5*time.Second
	tr, err := OpenTrial(t.Context(), guest(t, probePath), manifest, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

func TestTrialText(t *testing.T) {
	tr := trial(t, TrialOptions{})
	ctx := context.Background()
	found, err := tr.Text(ctx, TextTrial{Reply: true, Role: llm.Assistant}, "a sec", "ret b")
	if err != nil || found.Text != "a [WORD] b" || found.Held != 3 || found.Count != 1 || !slices.Equal(found.Kinds, []string{"WORD"}) {
		t.Errorf("got %+v, %v", found, err)
	}
	before := tr.Stats()
	if _, err := tr.Text(ctx, TextTrial{}, "!trap"); FaultCause(err) == "" {
		t.Errorf("a trap is no failure: %v", err)
	}
	if _, err = tr.Text(ctx, TextTrial{}, "!refuse"); FaultCause(err) != "" {
		t.Errorf("a refusal is a failure: %v", err)
	}
	if no, ok := errors.AsType[*pipeline.Refusal](err); !ok || no.Code != "probe_refused" {
		t.Errorf("got %v", err)
	}
	if after := tr.Stats(); after.Made != before.Made+1 || after.Fuel <= before.Fuel {
		t.Errorf("got %+v after %+v: the trapped instance was to be replaced", after, before)
	}
	if err := tr.Renew(ctx); err != nil || tr.Stats().Made != before.Made+2 {
		t.Errorf("no new instance was made: %v", err)
	}
}

func TestTrialCall(t *testing.T) {
	tr := trial(t, TrialOptions{})
	c, err := NewCall(llm.Chat, `{"model":"count","messages":[{"role":"user","content":"a secret"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Request(context.Background(), c); err != nil || c.Labels["count"] != "1" || len(c.Edits) != 1 {
		t.Errorf("got %v, %v, %v", c.Labels, c.Edits, err)
	}
	got, err := tr.Reply(context.Background(), c, `{"choices":[{"index":0,"message":{"role":"assistant","content":"no secret"},"finish_reason":"stop"}]}`)
	if err != nil || !strings.Contains(got, `"no [WORD]"`) {
		t.Errorf("got %s, %v", got, err)
	}
	if counted, err := tr.Metrics(); err != nil || counted["ended"] != 2 {
		t.Errorf("got %v, %v", counted, err)
	}
}

func TestTrialAsk(t *testing.T) {
	tr := trial(t, TrialOptions{})
	a, err := tr.Ask(context.Background(), Question{Hook: "on_text", In: []byte("!bad"), Flags: abi.FlagFinal})
	if err != nil || a.Word.Edits() != 1 || len(a.Edits) != abi.EditSize || a.Edits[abi.EditEnd] != 5 {
		t.Errorf("got %+v, %v: an answer that is not to be believed comes as it is", a, err)
	}
	if _, err := tr.Ask(context.Background(), Question{Hook: "on_nothing"}); err == nil {
		t.Error("a hook that there is not was asked")
	}
	if _, err := tr.Ask(context.Background(), Question{Hook: "on_text", In: make([]byte, tr.InCap()+1<<24)}); err == nil {
		t.Error("a question that does not fit was asked")
	}
}

func TestTrialDenies(t *testing.T) {
	manifest, err := os.ReadFile(filepath.Join(probePath, "manifest.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenTrial(t.Context(), guest(t, probePath), manifest, TrialOptions{Decode: decode, CacheDir: cacheDir(t), Capabilities: []string{"log"}})
	if err == nil || !strings.Contains(err.Error(), `"answer"`) {
		t.Errorf("got %v", err)
	}
}

// TestConfiguredAcrossTenants: an instance that is set back between tenants is still configured.
func TestConfiguredAcrossTenants(t *testing.T) {
	tr := trial(t, TrialOptions{Config: map[string]any{"word": "ab", "with": "x"}})
	for _, tenant := range []string{"", "a", "b", "a"} {
		c := &pipeline.Call{Request: &llm.Request{}, Principal: &pipeline.Principal{Tenant: tenant}}
		found, err := tr.Text(context.Background(), TextTrial{Call: c}, "abc secret")
		if err != nil || found.Text != "xc secret" {
			t.Errorf("tenant %q: got %q, %v", tenant, found.Text, err)
		}
	}
}

func TestInspect(t *testing.T) {
	in, err := Inspect(guest(t, probePath))
	if err != nil || in.Kind != abi.Marker || in.Fault != "" || !slices.Equal(in.Hooks, hooks) || !in.Configures || len(in.SHA256) != 64 || in.Pages == 0 {
		t.Errorf("got %+v, %v", in, err)
	}
	if want := []string{"call_get", "http_call", "kv_get", "kv_incr_if", "label_get", "label_set", "log", "metric", "model", "now_ms", "pool", "random", "vault_put"}; !slices.Equal(in.Capabilities, want) {
		t.Errorf("got %q, want %q", in.Capabilities, want)
	}
	bare, err := Inspect([]byte("\x00asm\x01\x00\x00\x00"))
	if err != nil || bare.Kind != "none" || !strings.Contains(bare.Fault, "exports no "+abi.Marker) {
		t.Errorf("got %+v, %v", bare, err)
	}
	if _, err := Inspect([]byte("<html>")); err == nil {
		t.Error("what is no module was inspected")
	}
}
