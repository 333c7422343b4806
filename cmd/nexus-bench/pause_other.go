//go:build !linux

package main

import "time"

// until returns at the time given or soon after.
func until(at time.Time) { time.Sleep(time.Until(at)) }
