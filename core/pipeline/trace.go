package pipeline

import "context"

// A Tracer notes one attempt at a backend as a span: the context it returns is the attempt's,
// c.Trace.Parent names the span while it lasts, and end is called once with what came of it.
type Tracer func(ctx context.Context, c *Call, backend string) (attempt context.Context, end func(err error))
