package main

import (
	"syscall"
	"time"
)

// spin is how long before its time until stops sleeping: Go's own timers may be a millisecond late.
const spin = 80 * time.Microsecond

// until returns at the time given, as nearly as one thread can.
func until(at time.Time) {
	for {
		d := time.Until(at)
		if d <= 0 {
			return
		}
		if d > spin {
			rest := syscall.NsecToTimespec(int64(d - spin))
			_ = syscall.Nanosleep(&rest, nil) // a signal ends it early: sleep again
		}
	}
}
