package telemetry

import (
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-gateway/nexus/core/llm"
)

// Known are the names that metrics may carry as labels, all from the configuration: whatever else a caller, a
// policy or a backend names is counted as "other", so that nobody outside can grow the number of series.
type Known struct {
	Models   []string // asked for or served; a trailing * is wild, and the pattern is then the label
	Pools    []string
	Backends map[string]Backend // by id
}

// A Backend is what spans and metrics say of a backend.
type Backend struct {
	Provider string // gen_ai.provider.name: "vllm", "sglang", "openai"
	Address  string // "host:port"
}

// other is the label of every name that is not known.
const other = "other"

// known is Known made ready for look-ups, with the series resolved under it.
type known struct {
	models   map[string]string // to the label, which shares no memory with a request
	wild     []string          // prefixes, the longest first
	pools    map[string]string
	backends map[string]backend
	series   seriesCache
}

type backend struct {
	Backend
	id string
}

func newKnown(names Known) *known {
	k := &known{
		models:   make(map[string]string, len(names.Models)),
		pools:    make(map[string]string, len(names.Pools)),
		backends: make(map[string]backend, len(names.Backends)),
	}
	for _, name := range names.Models {
		k.models[name] = name
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			k.wild = append(k.wild, prefix)
		}
	}
	slices.SortFunc(k.wild, func(a, b string) int { return len(b) - len(a) })
	for _, name := range names.Pools {
		k.pools[name] = name
	}
	for id, b := range names.Backends {
		k.backends[id] = backend{b, id}
	}
	return k
}

// SetKnown replaces the names that labels may carry; gateway calls it when it swaps a snapshot. Series of names
// that are gone are dropped, so that reloads do not pile them up.
func (t *Telemetry) SetKnown(names Known) {
	t.knowing.Lock()
	defer t.knowing.Unlock()
	was := t.known.Swap(newKnown(names))
	now := t.known.Load()
	t.metrics.forget("model", gone(was.models, now.models))
	t.metrics.forget("gen_ai_request_model", gone(was.models, now.models))
	t.metrics.forget("pool", gone(was.pools, now.pools))
	t.metrics.forget("backend", gone(was.backends, now.backends))
}

func gone[V any](was, now map[string]V) []string {
	return slices.Collect(func(yield func(string) bool) {
		for name := range maps.Keys(was) {
			if _, stays := now[name]; !stays && !yield(name) {
				return
			}
		}
	})
}

func (k *known) model(name string) string {
	if name == "" {
		return ""
	}
	if label, ok := k.models[name]; ok {
		return label
	}
	for _, prefix := range k.wild {
		if strings.HasPrefix(name, prefix) {
			return k.models[prefix+"*"]
		}
	}
	return other
}

func (k *known) pool(name string) string {
	if label, ok := k.pools[name]; ok || name == "" {
		return label
	}
	return other
}

func (k *known) backend(id string) backend {
	if b, ok := k.backends[id]; ok || id == "" {
		return b
	}
	return backend{id: other, Backend: Backend{Provider: other}}
}

// routeLabel keeps the label closed even if a route is added without a thought for metrics.
func routeLabel(e llm.Endpoint) llm.Endpoint {
	switch e {
	case llm.Chat, llm.Completions, llm.Embeddings, llm.Responses, llm.Rerank, llm.Score, llm.Tokenize, llm.Models:
		return e
	}
	return other
}

// forget drops the series whose label has one of the values.
func (m *metrics) forget(label string, values []string) {
	for _, value := range values {
		for _, vec := range m.vectors {
			vec.DeletePartialMatch(prometheus.Labels{label: value})
		}
	}
}
