package sandbox

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// timed is for how long a processor worked on f. What other processes make it wait for does not count: a machine
// that is busy is slow, but a guest must not go on for longer.
func timed(f func() error) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	clock := func() time.Duration {
		var t unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
			panic(err)
		}
		return time.Duration(t.Nano())
	}
	start := clock()
	err := f()
	return clock() - start, err
}
