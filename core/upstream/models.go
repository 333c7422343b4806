package upstream

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Models answers /v1/models and /v1/models/{id} with what the caller's key may use.
func (u *Upstream) Models(_ context.Context, c *pipeline.Call) (*llm.Reply, error) {
	var body []byte
	names := u.names(c.Principal)
	if c.Model == "" {
		body = append(body, `{"object":"list","data":[`...)
		for i, name := range names {
			if i > 0 {
				body = append(body, ',')
			}
			body = appendModel(body, name)
		}
		body = append(body, "]}"...)
	} else {
		if !slices.Contains(names, c.Model) {
			return nil, pipeline.NoModel("upstream", c.Model)
		}
		body = appendModel(body, c.Model)
	}
	reply := &llm.Reply{Status: http.StatusOK, Header: http.Header{"Content-Type": jsonType}}
	reply.Stream = llm.One(llm.Chunk{Raw: body, Data: body, Kind: llm.Body})
	return reply, nil
}

// names lists the pools' models that p may use, sorted; patterns name no model and are left out.
func (u *Upstream) names(p *pipeline.Principal) []string {
	var names []string
	for _, pool := range u.pools {
		for _, model := range pool.models {
			if !strings.HasSuffix(model, "*") && (p == nil || p.MayUse(model)) {
				names = append(names, model)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func appendModel(dst []byte, name string) []byte {
	dst = append(dst, `{"id":`...)
	dst = llm.AppendString(dst, name)
	return append(dst, `,"object":"model","created":0,"owned_by":"nexus"}`...)
}
