package pipeline

import (
	"fmt"
	"strings"
)

// NoModel is the refusal of a model that does not exist or that the caller may not use: both look the
// same to the caller, so that a key cannot learn what it may not have.
func NoModel(stage, model string) *Refusal {
	if len(model) > longestName {
		model = strings.ToValidUTF8(model[:longestName], "") + "…"
	}
	return &Refusal{
		Kind: NotFound, Stage: stage, Code: "model_not_found", Param: "model",
		Reason: fmt.Sprintf("The model %q does not exist or this key may not use it. GET /v1/models lists what it may use.", model),
	}
}

// longestName bounds what a refusal repeats of a caller's own words.
const longestName = 128 // bytes
