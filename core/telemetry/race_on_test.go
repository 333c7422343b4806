//go:build race

package telemetry

const raceOn = true
