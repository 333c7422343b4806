// Package setting holds the kinds of value a configuration may hold beyond Go's own, and the list of
// problems its sections report, so that each package can declare and check its own Config.
//
// A Config struct declares each setting once, by its tags:
//
//	MaxBody setting.Size `yaml:"max_body" default:"32MiB" doc:"Largest request body read."`
//
// yaml is the key, default the value taken when the key is absent (written as in the file), doc the
// sentence shown by `nexus config schema`, enum a comma-separated list of the only values allowed.
package setting

import (
	"fmt"
	"strconv"
	"strings"
)

// A Size is a number of bytes, written "512", "64KiB", "32MiB" or "1GiB".
type Size int64

// units are ordered so that the longest suffix is tried first.
var units = []struct {
	suffix string
	factor int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1}, {"", 1}}

// UnmarshalText reads a size; a negative or overflowing one is an error.
func (s *Size) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.factor {
			break
		}
		*s = Size(n * u.factor)
		return nil
	}
	return fmt.Errorf("%q is not a size: write bytes with an optional unit, such as 65536, 64KiB or 32MiB", text)
}

// String writes the size with the largest binary unit that divides it.
func (s Size) String() string {
	for _, u := range units[:3] {
		if s != 0 && int64(s)%u.factor == 0 {
			return strconv.FormatInt(int64(s)/u.factor, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// A Secret is text that no log, error, dump or format verb may show. In a file it is written as
// "${NAME}" (environment) or "file:/path"; the zero value is no secret.
type Secret struct{ text string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text; call it only where the secret is used.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether no secret was set.
func (s Secret) IsZero() bool { return s.text == "" }

// UnmarshalText keeps the text as it is; expansion has happened before.
func (s *Secret) UnmarshalText(b []byte) error {
	s.text = string(b)
	return nil
}

const redacted = "[redacted]"

// String, GoString and MarshalText keep the secret out of every ordinary way of printing it.
func (s Secret) String() string               { return redacted }
func (s Secret) GoString() string             { return redacted }
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// A Problem is one thing wrong with a setting. Path is relative to the whole file, as in
// "backends.gpu-1.url" or "auth.keys[2].sha256".
type Problem struct {
	Path string
	Text string
}

// Problems gathers what is wrong, all of it, so that a caller sees every mistake at once.
type Problems struct {
	prefix string
	list   *[]Problem
}

// NewProblems returns an empty list that reports paths from the file's root.
func NewProblems() Problems { return Problems{list: new([]Problem)} }

// In returns the same list with path put before every path it is given.
func (p Problems) In(path string) Problems {
	return Problems{prefix: join(p.prefix, path), list: p.list}
}

// Addf notes that the setting at path (empty: the section itself) is wrong.
func (p Problems) Addf(path, format string, args ...any) {
	*p.list = append(*p.list, Problem{join(p.prefix, path), fmt.Sprintf(format, args...)})
}

// All returns what was noted, in order.
func (p Problems) All() []Problem { return *p.list }

func join(prefix, path string) string {
	if prefix == "" || path == "" || path[0] == '[' {
		return prefix + path
	}
	return prefix + "." + path
}
