//go:build race

package llm

// The race detector makes sync.Pool forget on purpose, so allocations are not counted under it.
const raceEnabled = true
