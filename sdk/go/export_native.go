//go:build !wasip1

package nexus

// Log does nothing outside the gateway, so that a plugin's tests need no host.
func Log(string) {}
