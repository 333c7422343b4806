package policy

import (
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// respond answers c with the text that the policy gave, whole or streamed as it was asked, without a
// backend.
func respond(c *pipeline.Call, v *verdict) (*llm.Reply, error) {
	a := llm.Answer{ID: c.ID, Model: c.Request.Model, Text: v.text, At: time.Now(), Stream: c.Request.Stream, Usage: c.Request.IncludeUsage}
	return a.Reply(c.Route)
}
