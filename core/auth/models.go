package auth

import (
	"context"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Models is the stage that keeps each principal to its models. It stands behind the reading of the body,
// which names the model, and so apart from Keys, which lets nobody's body be read.
type Models struct{}

var _ pipeline.Stage = Models{}

// Handle lets the call on, or refuses a model outside the principal's list exactly as one that is not
// served. A principal with a list must name the model: some backends answer a body without one with
// whatever they serve.
func (Models) Handle(ctx context.Context, c *pipeline.Call, next pipeline.Handler) (*llm.Reply, error) {
	who, model := c.Principal, named(c)
	switch {
	case who == nil:
		return nil, refuse("No API key was sent: " + expected + ".") // nobody asked who calls: fail closed
	case len(who.Models) == 0 || model == "" && c.Route == llm.Models:
		return next.Handle(ctx, c) // the list of models shows each principal its own
	case model == "":
		return nil, &pipeline.Refusal{Kind: pipeline.Invalid, Stage: stage, Param: "model", Reason: "You must provide a model parameter."}
	case !who.MayUse(model):
		return nil, pipeline.NoModel(stage, model)
	}
	return next.Handle(ctx, c)
}

// named is the model that the call names, in its path or its body.
func named(c *pipeline.Call) string {
	if c.Route == llm.Models || c.Request == nil {
		return c.Model
	}
	return c.Request.Model
}
