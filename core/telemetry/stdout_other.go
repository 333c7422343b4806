//go:build !unix

package telemetry

import "os"

// Stdout is the standard output. It is closed with the log, after everything else has ended.
func Stdout() (*os.File, error) { return os.Stdout, nil }
