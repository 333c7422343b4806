package policy

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// A line is an entry as it is written. The members of OPA's own decision logs stand first, under their names.
type line struct {
	DecisionID  string            `json:"decision_id"`
	Labels      map[string]string `json:"labels,omitempty"`
	TraceID     string            `json:"trace_id,omitempty"`
	Revision    string            `json:"revision"`
	Path        string            `json:"path"`
	Input       any               `json:"input,omitempty"`
	Result      *result           `json:"result,omitempty"`
	Erased      []string          `json:"erased,omitempty"`
	Masked      []string          `json:"masked,omitempty"`
	Error       string            `json:"error,omitempty"`
	RequestedBy string            `json:"requested_by,omitempty"`
	Timestamp   time.Time         `json:"timestamp"`
	Metrics     map[string]int64  `json:"metrics"`

	Outcome   outcome     `json:"outcome"`
	Tenant    string      `json:"tenant,omitempty"`
	Principal string      `json:"principal,omitempty"`
	Route     string      `json:"route"`
	Shadow    *difference `json:"shadow,omitempty"`
}

// A result is what was decided, or what a failure rule made of it.
type result struct {
	Action  pipeline.Action   `json:"action"`
	Rule    string            `json:"rule,omitempty"`
	Matched []string          `json:"matched,omitempty"`
	Reason  string            `json:"reason,omitempty"`
	Targets []string          `json:"targets,omitempty"`
	Masks   map[string]string `json:"masks,omitempty"` // of targets that have one of their own, by pool
	Set     *setLine          `json:"set,omitempty"`
	Mask    *maskLine         `json:"mask,omitempty"`
	Limits  []limitLine       `json:"limits,omitempty"`
	Deny    *denyLine         `json:"deny,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
}

type setLine struct {
	Model     string `json:"model,omitempty"`
	MaxTokens int64  `json:"max_tokens,omitempty"`
}

type maskLine struct {
	Profile string `json:"profile,omitempty"`
	Restore bool   `json:"restore,omitempty"`
}

type limitLine struct {
	Key      string `json:"key"`
	Requests int64  `json:"requests,omitempty"`
	Tokens   int64  `json:"tokens,omitempty"`
}

type denyLine struct {
	Status int    `json:"status,omitempty"`
	Code   string `json:"code,omitempty"`
}

const (
	logPath    = "nexus/decision"
	shadowPath = "nexus/shadow" // of lines that tell a shadow policy's difference
	evalTimer  = "timer_rego_query_eval_ns"
)

func resultOf(v *verdict) *result {
	r := &result{Action: v.Action, Rule: v.Rule, Matched: v.matched, Reason: v.Reason, Targets: poolsOf(v), Masks: masksOf(v), Tags: v.Tags}
	if v.Set != (pipeline.Set{}) {
		r.Set = &setLine{v.Set.Model, v.Set.MaxTokens}
	}
	if v.Mask != (pipeline.Mask{}) {
		r.Mask = &maskLine{v.Mask.Profile, v.Mask.Restore}
	}
	for _, l := range v.Limits {
		r.Limits = append(r.Limits, limitLine{l.Key, l.Requests, l.Tokens})
	}
	if v.Deny.Status != 0 || v.Deny.Code != "" {
		r.Deny = &denyLine{v.Deny.Status, v.Deny.Code}
	}
	return r
}

func poolsOf(v *verdict) (list []string) {
	for _, t := range v.Targets {
		list = append(list, t.Pool)
	}
	return list
}

// masksOf are the masks of the targets that have one of their own, by pool; nil: none has.
func masksOf(v *verdict) (masks map[string]string) {
	for _, t := range v.Targets {
		if t.Mask != "" {
			if masks == nil {
				masks = map[string]string{}
			}
			masks[t.Pool] = t.Mask
		}
	}
	return masks
}

// masks hide what a log must not tell.
type masks struct {
	labels map[string]string
	erase  [][]string
	hash   [][]string
	key    []byte
}

// userText is what of the input the user wrote.
var userText = []string{"input.prompt.last_user"}

func newMasks(cfg LogConfig) *masks {
	m := &masks{labels: cfg.Labels, key: []byte(cfg.HashKey.Reveal())}
	if len(m.key) == 0 {
		m.key = make([]byte, sha256.Size)
		rand.Read(m.key) // never fails
	}
	if !cfg.Text {
		m.erase = paths(userText)
	}
	m.erase = append(m.erase, paths(cfg.Erase)...)
	m.hash = paths(cfg.Hash)
	return m
}

// paths are the names after "input" of each of list.
func paths(list []string) (out [][]string) {
	for _, p := range list {
		out = append(out, strings.Split(p, ".")[1:])
	}
	return out
}

// appendLine appends e as one line of JSON. What cannot be written as JSON is left out of it.
func (m *masks) appendLine(b []byte, e *entry) []byte {
	l := line{
		DecisionID: e.call.decision, Labels: m.labels, TraceID: e.call.trace, Revision: e.revision, Path: logPath,
		RequestedBy: e.call.remote, Timestamp: e.at, Metrics: map[string]int64{evalTimer: e.took.Nanoseconds()},
		Outcome: e.outcome, Tenant: e.call.tenant, Principal: e.call.principal, Route: e.call.route, Shadow: e.shadow,
	}
	if e.verdict != nil {
		l.Result = resultOf(e.verdict)
	}
	if e.err != nil {
		l.Error = cut(e.err.Error(), maxString)
	}
	if e.shadow != nil {
		l.Path = shadowPath
	}
	m.hide(&l, e.input)
	text, err := json.Marshal(l)
	if err != nil {
		l.Input = nil
		text, _ = json.Marshal(l)
	}
	return append(appendVisible(b, text), '\n')
}

// hide sets the input of l, and takes out of the line what is masked.
func (m *masks) hide(l *line, input ast.Object) {
	root := map[string]any{}
	if input != nil {
		if v, err := ast.JSON(input); err == nil {
			root, _ = v.(map[string]any)
			l.Input = root
		}
	}
	for _, path := range m.erase {
		if change(root, path, func(any) any { return nil }) {
			l.Erased = append(l.Erased, pointer(path))
		}
		m.identity(l, path, func(any) any { return "" })
	}
	for _, path := range m.hash {
		if change(root, path, m.sum) {
			l.Masked = append(l.Masked, pointer(path))
		}
		m.identity(l, path, m.sum)
	}
}

// identity hides what of the line stands outside the input as well.
func (m *masks) identity(l *line, path []string, with func(any) any) {
	for _, one := range []struct {
		path string
		at   *string
	}{{"principal.id", &l.Principal}, {"principal.tenant", &l.Tenant}} {
		name := strings.Join(path, ".")
		if *one.at != "" && (one.path == name || strings.HasPrefix(one.path, name+".")) {
			*one.at, _ = with(*one.at).(string)
		}
	}
}

// change replaces what lies at path by what with makes of it, nil: takes it out. It reports whether anything
// lay there.
func change(at map[string]any, path []string, with func(any) any) bool {
	for ; len(path) > 1; path = path[1:] {
		below, ok := at[path[0]].(map[string]any)
		if !ok {
			return false
		}
		at = below
	}
	old, ok := at[path[0]]
	if !ok {
		return false
	}
	if value := with(old); value != nil {
		at[path[0]] = value
	} else {
		delete(at, path[0])
	}
	return true
}

// sum stands for value: equal values have equal sums, and nobody without the key can try values out.
func (m *masks) sum(value any) any {
	text, ok := value.(string)
	if !ok {
		raw, err := json.Marshal(value)
		if err != nil {
			return "hmac:"
		}
		text = string(raw)
	}
	h := hmac.New(sha256.New, m.key)
	h.Write([]byte(text))
	return "hmac:" + hex.EncodeToString(h.Sum(nil)[:16])
}

func pointer(path []string) string { return "/input/" + strings.Join(path, "/") }

// appendVisible appends JSON with every character escaped that no reader of a log would see, or that would
// act on a terminal: encoding/json leaves DEL, the C1 controls and marks of direction as they are.
func appendVisible(b, text []byte) []byte {
	const digits = "0123456789abcdef"
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r < 0x7f || !hidden(r) {
			b = append(b, text[:size]...)
		} else {
			b = append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
		}
		text = text[size:]
	}
	return b
}

func hidden(r rune) bool {
	return r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e ||
		r >= 0x2060 && r <= 0x2069 || r == 0x2028 || r == 0x2029 || r == 0xfeff
}
