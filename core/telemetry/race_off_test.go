//go:build !race

package telemetry

const raceOn = false
