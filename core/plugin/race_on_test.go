//go:build race

package plugin

// racing says that the race detector slows everything and takes memory of its own.
const racing = true
