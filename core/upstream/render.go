package upstream

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
	"github.com/nexus-gateway/nexus/core/setting"
)

// An order is a request as one attempt sends it.
type order struct {
	body       []byte
	hideUsage  bool // the caller did not ask for the usage chunk
	hideTicker bool // the caller did not ask for usage on every chunk
	hideTokens bool // the caller did not ask for the numbers of the answer's tokens
	hidePrompt bool // the caller did not ask for those of the prompt
	hideNull   bool // "usage": null on every chunk comes of our asking alone
}

// render makes the body for one backend: the plugins' edits unless the decision lets the text through,
// what the decision sets, the tenant's cache_salt, and the usage that the gateway itself needs.
// With nothing to change it returns the caller's own bytes.
func (u *Upstream) render(c *pipeline.Call, t try) (order, error) {
	var patch llm.Patch
	p, b := t.pool, t.backend
	if !t.resume.inPlaceOfPrompt(c) {
		if err := patchTexts(&patch, c, p.name); err != nil {
			return order{}, err
		}
	}
	r := c.Request
	patchModel(&patch, c, p)
	patchMaxTokens(&patch, c)
	if t.resume != nil {
		patchResume(&patch, c, b, t.resume)
	}
	if b.kind != "openai" && generates(c.Route) {
		patch.SetField(r, "cache_salt", u.salt.of(tenant(c)))
	}
	o := order{}
	if r.Stream && (c.Route == llm.Chat || c.Route == llm.Completions) {
		o = patchUsage(&patch, c, b)
	}
	if t.plan.ids && t.resume == nil {
		o.patchNumbers(&patch, c, b)
	}
	if patch.Empty() {
		o.body = r.Body
		return o, nil
	}
	body, err := patch.Apply(make([]byte, 0, len(r.Body)+256), r.Body)
	if err != nil {
		return order{}, fmt.Errorf("upstream: render the request for %q: %w", b.id, err)
	}
	o.body = body
	return o, nil
}

// patchModel names the pool's model, else the decision's, else the call's, which a plugin may have chosen.
func patchModel(patch *llm.Patch, c *pipeline.Call, p *pool) {
	model := p.sent(c)
	written, ok := c.Request.Field("model")
	if n := len(written); ok && n >= 2 && string(written[1:n-1]) == model {
		return
	}
	if model != "" {
		patch.SetField(c.Request, "model", llm.AppendString(nil, model))
	}
}

func patchTexts(patch *llm.Patch, c *pipeline.Call, pool string) error {
	var edits []pipeline.TextEdits
	if c.Decision.Hides(pool) {
		edits = c.Edits
	}
	if c.System != (pipeline.System{}) {
		edits = withSystem(patch, c, edits)
	}
	for _, te := range edits {
		if err := patch.EditText(c.Request.Body, c.Request.Texts[te.Text], te.Edits); err != nil {
			return fmt.Errorf("upstream: apply the plugins' edits to text %d: %w", te.Text, err)
		}
	}
	return nil
}

// patchMaxTokens lowers the caller's bound to the decision's, under whichever name the caller used.
func patchMaxTokens(patch *llm.Patch, c *pipeline.Call) {
	limit := c.Decision.Set.MaxTokens
	if limit <= 0 || c.Request.MaxTokens >= 0 && c.Request.MaxTokens <= limit {
		return
	}
	setMaxTokens(patch, c, limit)
}

func setMaxTokens(patch *llm.Patch, c *pipeline.Call, limit int64) {
	value := strconv.AppendInt(nil, limit, 10)
	names := [...]string{"max_completion_tokens", "max_tokens", "max_output_tokens"}
	found := false
	for _, name := range names {
		if _, ok := c.Request.Field(name); ok {
			patch.SetField(c.Request, name, value)
			found = true
		}
	}
	if !found && c.Route == llm.Responses {
		patch.SetField(c.Request, "max_output_tokens", value)
	} else if !found && generates(c.Route) {
		patch.SetField(c.Request, "max_tokens", value)
	}
}

// patchUsage asks the backend for the usage that the gateway counts by, and says what of it to hide again.
func patchUsage(patch *llm.Patch, c *pipeline.Call, b *backend) order {
	raw, ok := c.Request.Field("stream_options")
	ticker := c.Metered && b.kind != "openai"
	o := order{hideUsage: !c.Request.IncludeUsage, hideTicker: ticker, hideNull: b.kind == "openai" && !c.Request.IncludeUsage}
	switch {
	case bytes.Contains(raw, []byte("continuous_usage_stats")):
		o.hideTicker = false
		if c.Request.IncludeUsage {
			return o
		}
		patch.SetField(c.Request, "stream_options", withUsage(raw, ticker))
	case c.Request.IncludeUsage && !ticker:
	case !ok || string(raw) == "null" || c.Request.IncludeUsage && len(raw) <= len(`{"include_usage":true}`)+2:
		patch.SetField(c.Request, "stream_options", usageOptions[ticker])
	default:
		patch.SetField(c.Request, "stream_options", withUsage(raw, ticker))
	}
	return o
}

// patchNumbers asks an engine for the numbers of the tokens, from which the answer can go on elsewhere, and says what of
// them to hide again.
func (o *order) patchNumbers(patch *llm.Patch, c *pipeline.Call, b *backend) {
	if b.kind != "vllm" && b.kind != "sglang" {
		return
	}
	asked, _ := c.Request.Field("return_token_ids")
	o.hideTokens = string(asked) != "true"
	o.hidePrompt = o.hideTokens
	if b.kind == "sglang" {
		asked, _ = c.Request.Field("return_prompt_token_ids")
		o.hidePrompt = string(asked) != "true"
	}
	if o.hideTokens || o.hidePrompt {
		askIDs(patch, c, b)
	}
}

var usageOptions = map[bool][]byte{
	false: []byte(`{"include_usage":true}`),
	true:  []byte(`{"include_usage":true,"continuous_usage_stats":true}`),
}

// withUsage adds the usage options to stream options that hold more than these; rare enough to decode.
func withUsage(raw []byte, ticker bool) []byte {
	options := make(map[string]json.RawMessage)
	if json.Unmarshal(raw, &options) != nil {
		return usageOptions[ticker]
	}
	options["include_usage"] = json.RawMessage("true")
	if ticker {
		options["continuous_usage_stats"] = json.RawMessage("true")
	}
	merged, err := json.Marshal(options)
	if err != nil {
		return usageOptions[ticker]
	}
	return merged
}

func generates(e llm.Endpoint) bool {
	return e == llm.Chat || e == llm.Completions || e == llm.Responses
}

func tenant(c *pipeline.Call) string {
	if c.Principal == nil {
		return ""
	}
	return c.Principal.Tenant
}

// A salter derives the cache_salt of each tenant, so that no tenant can tell from timing what another's
// prompts were. The key keeps a salt from being guessed.
type salter struct {
	key   []byte
	known *sync.Map // tenant → JSON string; as many as keys name tenants
}

func newSalter(key setting.Secret) salter {
	k := sha256.Sum256([]byte("nexus cache_salt\x00" + key.Reveal()))
	return salter{key: k[:], known: new(sync.Map)}
}

func (s salter) of(tenant string) []byte {
	if v, ok := s.known.Load(tenant); ok {
		return v.([]byte)
	}
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(tenant))
	salt := []byte(`"` + hex.EncodeToString(mac.Sum(nil)[:16]) + `"`)
	s.known.Store(tenant, salt)
	return salt
}
