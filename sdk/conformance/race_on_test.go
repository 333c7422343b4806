//go:build race

package conformance

// racing says that the race detector slows everything.
const racing = true
