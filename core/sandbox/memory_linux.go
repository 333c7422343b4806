package sandbox

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A mappedMemory is a reservation of as much as the guest may ever have, opened as it grows. Once the guest has
// started, the pages that hold something are mapped, private, from a file in memory that has their content: the
// kernel copies a page when the guest first writes to it. A reset so costs by what was written, and guests that
// started alike share what they do not write.
type mappedMemory struct {
	region []byte // all of the reservation
	open   int    // bytes of it that may be touched
	kept   int    // of them, when keep was called
	shown  *image
	own    bool          // shown is nobody else's
	copied []byte        // what was kept, if there could be no image
	found  [64]pageRange // the kernel's answer
}

var _ resettable = (*mappedMemory)(nil)

// newMemory reserves room for most bytes. If there is none, it is a memory that cannot grow, and makes no instance:
// Go's heap would have no room either, and ends the process when it has none.
func newMemory(most uint64) resettable {
	const flags = unix.MAP_PRIVATE | unix.MAP_ANON | unix.MAP_NORESERVE
	if most == 0 {
		return &heapMemory{}
	}
	base, err := unix.MmapPtr(-1, 0, nil, uintptr(most), unix.PROT_NONE, flags)
	if err != nil {
		return &mappedMemory{}
	}
	m := &mappedMemory{region: unsafe.Slice((*byte)(base), most)}
	// A huge page would be cleared whole for one byte in it. A kernel that knows none refuses, and is right.
	_ = unix.Madvise(m.region, unix.MADV_NOHUGEPAGE)
	return m
}

func (m *mappedMemory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.region)) {
		return nil
	}
	if n := int(size); n > m.open {
		if unix.Mprotect(m.region[m.open:n], unix.PROT_READ|unix.PROT_WRITE) != nil {
			return nil
		}
		m.open = n
	}
	return m.region[:size:size]
}

func (m *mappedMemory) Free() {
	if m.region != nil {
		_ = unix.MunmapPtr(unsafe.Pointer(&m.region[0]), uintptr(len(m.region)))
	}
	if m.own {
		m.shown.close()
	}
	*m = mappedMemory{}
}

func (m *mappedMemory) keep(like *image) (*image, error) {
	m.kept = m.open
	now := m.region[:m.open]
	spans := spansOf(now)
	if like != nil && like.holds(spans, now) {
		m.shown = like
		return like, m.show()
	}
	i, err := newImage(spans, now)
	switch {
	case err != nil: // there are no more files to be had
		m.copied = bytes.Clone(now)
		if like == nil {
			like = noImage()
		}
		return like, nil
	case like == nil:
		m.shown, like = i, i
	default:
		m.shown, m.own = i, true
	}
	return like, m.show()
}

// show maps the image onto the memory that it was made of. If there are no more mappings to be had, the memory keeps
// a copy.
func (m *mappedMemory) show() error {
	if m.shown.mapOnto(m) == nil {
		return nil
	}
	if err := m.shown.fill(m); err != nil {
		return fmt.Errorf("no memory: %w", err)
	}
	m.copied = bytes.Clone(m.region[:m.open])
	return nil
}

func (m *mappedMemory) reset() []byte {
	if m.open > 0 && !m.restored() {
		return nil
	}
	return m.region[:m.kept:m.kept]
}

func (m *mappedMemory) restored() bool {
	if m.copied == nil {
		return m.restore() || unix.Madvise(m.region[:m.open], unix.MADV_DONTNEED) == nil
	}
	copy(m.region, m.copied)
	return m.open == m.kept || unix.Madvise(m.region[m.kept:m.open], unix.MADV_DONTNEED) == nil
}

// restore writes over the pages that are the guest's own, where the kernel can tell which these are (Linux 6.7)
// and they are few: to drop them would be one call too, but then each would have to be faulted in again, which
// costs ten times as much.
func (m *mappedMemory) restore() bool {
	n, err := m.shown.ownPages(m.region[:m.open], m.found[:])
	if err != nil || n == len(m.found) {
		return false
	}
	base := uint64(uintptr(unsafe.Pointer(&m.region[0])))
	total := uint64(0)
	for _, r := range m.found[:n] {
		total += r.end - r.start
	}
	if total > maxRestored {
		return false
	}
	for _, r := range m.found[:n] {
		m.shown.copyTo(m.region, int(r.start-base), int(r.end-base))
	}
	return true
}

const maxRestored = 1 << 20 // bytes of a memory that are written over; more is dropped, and so given back

// A span is a stretch of memory, in bytes, that holds something.
type span struct{ start, end int }

// spansOf finds what is not zero, page by page. Stretches with little between them count as one, so that a
// memory never takes more mappings than a process may have.
func spansOf(b []byte) []span {
	page := unix.Getpagesize()
	zero := make([]byte, page)
	apart := max(16*page, len(b)/64)
	var spans []span
	for at := 0; at < len(b); at += page {
		end := min(at+page, len(b))
		switch last := len(spans) - 1; {
		case bytes.Equal(b[at:end], zero[:end-at]):
		case last >= 0 && at-spans[last].end < apart:
			spans[last].end = end
		default:
			spans = append(spans, span{at, end})
		}
	}
	return spans
}

// An image is what a memory held, one span behind the other in a file that has no name.
type image struct {
	file  int
	pages int // the kernel's account of this process's pages, -1 if there is none
	spans []span
	view  []byte // the file, as it is mapped to read
}

func newImage(spans []span, b []byte) (*image, error) {
	file, err := unix.MemfdCreate("nexus-guest", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	i := &image{file: file, spans: spans}
	if i.pages, err = unix.Open("/proc/self/pagemap", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		i.pages = -1
	}
	size := 0
	for _, s := range spans {
		size += s.end - s.start
	}
	if size == 0 {
		return i, nil
	}
	if err = unix.Ftruncate(file, int64(size)); err == nil {
		i.view, err = unix.Mmap(file, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		i.close()
		return nil, err
	}
	at := 0
	for _, s := range spans {
		at += copy(i.view[at:], b[s.start:s.end])
	}
	_ = unix.Mprotect(i.view, unix.PROT_READ) // every guest of the pool starts from it
	return i, nil
}

// noImage is an image that no memory is like, but for one that is all zeros.
func noImage() *image { return &image{file: -1, pages: -1} }

// holds reports whether the image is of a memory that is like b.
func (i *image) holds(spans []span, b []byte) bool {
	if !slices.Equal(i.spans, spans) {
		return false
	}
	at := 0
	for _, s := range spans {
		n := s.end - s.start
		if !bytes.Equal(i.view[at:at+n], b[s.start:s.end]) {
			return false
		}
		at += n
	}
	return true
}

// mapOnto makes m show the image, without a change to what it holds.
func (i *image) mapOnto(m *mappedMemory) error {
	at := int64(0)
	for _, s := range i.spans {
		n := s.end - s.start
		_, err := unix.MmapPtr(i.file, at, unsafe.Pointer(&m.region[s.start]), uintptr(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	if m.open > 0 {
		_ = unix.Madvise(m.region[:m.open], unix.MADV_DONTNEED) // pages of nothing that were touched
	}
	return nil
}

// fill makes good for mapOnto: the kernel may have unmapped what it could not map anew.
func (i *image) fill(m *mappedMemory) error {
	const flags = unix.MAP_PRIVATE | unix.MAP_ANON | unix.MAP_FIXED
	for _, s := range i.spans {
		_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(&m.region[s.start]), uintptr(s.end-s.start), unix.PROT_READ|unix.PROT_WRITE, flags)
		if err != nil {
			return err
		}
		i.copyTo(m.region, s.start, s.end)
	}
	return nil
}

// close gives up the file; memories that show it keep its pages.
func (i *image) close() {
	if i == nil {
		return
	}
	if i.view != nil {
		_ = unix.Munmap(i.view)
	}
	if i.file >= 0 {
		_ = unix.Close(i.file)
	}
	if i.pages >= 0 {
		_ = unix.Close(i.pages)
	}
	*i = image{file: -1, pages: -1}
}

// copyTo writes what the image has from start to end into a memory: zeros where it has nothing.
func (i *image) copyTo(memory []byte, start, end int) {
	at := 0
	for _, s := range i.spans {
		if from, to := max(start, s.start), min(end, s.end); from < to {
			clear(memory[start:from])
			copy(memory[from:to], i.view[at+from-s.start:])
			start = to
		}
		at += s.end - s.start
	}
	clear(memory[start:end])
}

// The layouts and numbers of ioctl PAGEMAP_SCAN, include/uapi/linux/fs.h.
type pageScan struct {
	size, flags, start, end, walkEnd, found, most, pages uint64
	inverted, all, any, told                             uint64
}

type pageRange struct{ start, end, is uint64 }

const (
	pagemapScan = 0xc0606610
	pageFile    = 1 << 2 // shows a file
	pagePresent = 1 << 3
	pageSwapped = 1 << 4
	pageZero    = 1 << 5 // shows the one page of zeros
)

// ownPages finds the pages of a memory that are its own by now, in memory or swapped out.
func (i *image) ownPages(memory []byte, found []pageRange) (int, error) {
	start := uint64(uintptr(unsafe.Pointer(&memory[0])))
	scan := pageScan{
		size: uint64(unsafe.Sizeof(pageScan{})), start: start, end: start + uint64(len(memory)),
		found: uint64(uintptr(unsafe.Pointer(&found[0]))), most: uint64(len(found)),
		inverted: pageFile | pageZero, all: pageFile | pageZero, any: pagePresent | pageSwapped, told: pagePresent,
	}
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(i.pages), pagemapScan, uintptr(unsafe.Pointer(&scan)))
	runtime.KeepAlive(found)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
