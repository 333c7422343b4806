//go:build !unix

package policy

import "time"

// processTime is the time since the start: what the process used of it is not known here.
func processTime() time.Duration { return time.Since(started) }
