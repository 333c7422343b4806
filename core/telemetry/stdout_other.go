//go:build !unix

package telemetry

import "os"

// stdout is the standard output. It is closed with the log, after everything else has ended.
func stdout() (*os.File, error) { return os.Stdout, nil }
