package policy

import (
	"cmp"
	"fmt"
	"strings"
)

// A peak is the highest revision that was in force, of the bundles of one address.
type peak struct{ url, revision string }

// rise notes that a bundle is in force.
func (f *Feed) rise(r *release) {
	if r.bundle == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peak.url != r.bundle.URL || byRevision(r.revision, f.peak.revision) > 0 {
		f.peak = peak{r.bundle.URL, r.revision}
	}
}

// tooOld is why r may not be taken, though its signature is good: who can put an old bundle in the place of the present one
// brings back what was mended since. What was in force already is taken again, since only an operator asks for that.
func (f *Feed) tooOld(r *release, cfg *Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.bundle == nil || cfg.Bundle.MinRevision == "" || !r.since.IsZero() {
		return nil
	}
	least, why := cfg.Bundle.MinRevision, "bundle.min_revision"
	if f.peak.url == r.bundle.URL && byRevision(f.peak.revision, least) > 0 {
		least, why = f.peak.revision, "which was in force"
	}
	if byRevision(r.revision, least) < 0 {
		return fmt.Errorf("policy: bundle %s: its revision %s comes before %s, %s", r.bundle.name(), r.revision, least, why)
	}
	return nil
}

// byRevision compares revisions part by part, digits as numbers: 9 comes before 10, and v1.9 before v1.10.
func byRevision(a, b string) int {
	for a != "" && b != "" {
		var x, y string
		x, a = part(a)
		y, b = part(b)
		if isDigit(x[0]) && isDigit(y[0]) {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if len(x) != len(y) {
				return cmp.Compare(len(x), len(y))
			}
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// part parts s behind its first run of digits, or of what are none.
func part(s string) (first, rest string) {
	end := 1
	for end < len(s) && isDigit(s[end]) == isDigit(s[0]) {
		end++
	}
	return s[:end], s[end:]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
