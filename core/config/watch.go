package config

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	defaultEvery  = 500 * time.Millisecond
	maxUnsettled  = 20      // intervals that files may go on changing before the change is reported all the same
	maxWatched    = 10_000  // files and directories looked at
	maxWatchDepth = 8       // directories inside each other
	maxHashed     = 8 << 20 // bytes of a file whose content is compared; a longer one is known by size and time
	racy          = 2 * time.Second
)

// Watch calls changed, one call at a time, whenever what lies at paths has changed and then stayed the
// same for one interval (0: 500 ms), until ctx ends. Directories are watched with all that is in them
// but dot files. It looks and compares instead of asking the kernel, and so sees alike an edit in
// place, an editor's rename, a ConfigMap's swapped symlink, a deletion and a return. When paths returns
// other paths than before, that is a change too. What changed before the first look is not seen.
func Watch(ctx context.Context, paths func() []string, every time.Duration, changed func()) {
	WatchSince(ctx, time.Time{}, paths, every, changed)
}

// WatchSince is Watch for who has read the files before: one that was written since then has changed, though the first
// look finds it so. The zero time is now.
func WatchSince(ctx context.Context, since time.Time, paths func() []string, every time.Duration, changed func()) {
	if every <= 0 {
		every = defaultEvery
	}
	w := watcher{known: map[string]seen{}}
	reported := w.look(paths())
	last, unsettled := reported, 0
	if !since.IsZero() && w.newest().After(since) {
		reported = look{}
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := w.look(paths())
		settled := now == last
		last = now
		if now == reported {
			unsettled = 0
			continue
		}
		if unsettled++; settled || unsettled >= maxUnsettled {
			reported, unsettled = now, 0
			changed()
		}
	}
}

// A look is the digest of all that was seen.
type look [sha256.Size]byte

// A watcher keeps the digests of files that have not changed since.
type watcher struct {
	known map[string]seen
	left  int // files that may still be looked at
}

// seen is one file as it was when its digest was taken.
type seen struct {
	info os.FileInfo
	sum  look
	at   time.Time
}

func (w *watcher) look(paths []string) look {
	w.left = maxWatched
	fresh := make(map[string]seen, len(w.known))
	h := sha256.New()
	for _, path := range paths {
		w.add(h, fresh, path, maxWatchDepth)
	}
	w.known = fresh
	return look(h.Sum(nil))
}

// newest is when the youngest of the files was written.
func (w *watcher) newest() (at time.Time) {
	for _, s := range w.known {
		if s.info.ModTime().After(at) {
			at = s.info.ModTime()
		}
	}
	return at
}

// add writes what lies at path to h. Stat follows symlinks, so that a link's new target is a change.
func (w *watcher) add(h hash.Hash, fresh map[string]seen, path string, depth int) {
	if w.left--; w.left < 0 || depth < 0 {
		return
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		fmt.Fprintf(h, "%q absent\n", path)
	case info.IsDir():
		fmt.Fprintf(h, "%q directory\n", path)
		w.addDir(h, fresh, path, depth)
	case info.Mode().IsRegular():
		s := w.file(path, info)
		fresh[path] = s
		fmt.Fprintf(h, "%q %x\n", path, s.sum)
	}
}

func (w *watcher) addDir(h hash.Hash, fresh map[string]seen, path string, depth int) {
	entries, err := os.ReadDir(path) // sorted
	if err != nil {
		fmt.Fprintf(h, "%q unreadable\n", path)
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			w.add(h, fresh, filepath.Join(path, e.Name()), depth-1)
		}
	}
}

// file returns the digest of a file. An unchanged size and time prove an unchanged content only when
// the digest was taken well after that time: two writes may share one tick of the file system's clock.
func (w *watcher) file(path string, info os.FileInfo) seen {
	old, ok := w.known[path]
	if ok && os.SameFile(old.info, info) && old.info.Size() == info.Size() &&
		old.info.ModTime().Equal(info.ModTime()) && old.at.Sub(info.ModTime()) > racy {
		return old
	}
	s := seen{info: info, at: time.Now()}
	data, err := readFile(path, maxHashed)
	if err != nil {
		data = fmt.Appendf(nil, "%d %d", info.Size(), info.ModTime().UnixNano())
	}
	s.sum = sha256.Sum256(data)
	return s
}
