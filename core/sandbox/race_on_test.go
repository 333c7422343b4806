//go:build race

package sandbox

// racing: the race detector maps terabytes for itself, which it neither can do within limits nor should lock.
const racing = true
