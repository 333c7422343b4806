//go:build !unix

package sandbox

import "os"

// ours trusts the system's own access lists.
func ours(string, os.FileInfo) error { return nil }
