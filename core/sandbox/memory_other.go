//go:build !linux

package sandbox

// An image is nothing here.
type image struct{}

func (*image) close() {}

func noImage() *image { return &image{} }

func newMemory(uint64) resettable { return &heapMemory{} }
