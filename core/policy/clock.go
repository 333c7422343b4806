package policy

import "time"

// started is where time is counted from when the processor's is not known.
var started = time.Now()
