package setting

import "strings"

// Nearest returns the one of names that name was probably meant to be; empty when none is near enough.
// Case, hyphens and underscores make no difference.
func Nearest(name string, names []string) string {
	best, least := "", 2+min(len(name), 12)/4
	for _, n := range names {
		if d := Distance(fold(name), fold(n)); d < least {
			best, least = n, d
		}
	}
	return best
}

// fold takes out what separates maxBody, max-body and max_body.
func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// Distance counts the insertions, deletions, replacements and swaps of neighbours between a
// and b, in bytes. Of names longer than 64 bytes nothing is near.
func Distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	older, old, now := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range old {
		old[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			change := old[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			now[j] = min(change, old[j]+1, now[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], older[j-2]+1)
			}
		}
		older, old, now = old, now, older
	}
	return old[len(b)]
}
