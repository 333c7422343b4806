//go:build unix

package sandbox

import (
	"fmt"
	"os"
	"syscall"
)

// ours checks that a file belongs to the user who runs this.
func ours(path string, info os.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, not to %d who runs this: others could put code there; name another directory, or change its owner", path, st.Uid, os.Geteuid())
	}
	return nil
}
