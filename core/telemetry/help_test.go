package telemetry

import (
	"context"
	"time"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

func durationOf(n int64) time.Duration { return time.Duration(n) }

// drainCall fills c as a call that was answered.
func drainCall(c *pipeline.Call) {
	backendOf(nil)(context.Background(), c)
}
