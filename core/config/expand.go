package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	maxExpanded = 4 << 20  // bytes of all scalars of a file together, after expansion
	maxSecret   = 64 << 10 // bytes of a secret's file
)

var errExpanded = fmt.Errorf("the file's values are longer than %d bytes after expansion", maxExpanded)

// expand replaces ${NAME} and ${NAME:-default} by what the environment says; $${ is a plain ${. What
// comes in this way is text: it is neither expanded again nor read as YAML.
func (d *decoder) expand(written string) (text string, fromOutside bool, err error) {
	var b strings.Builder
	rest := written
	for {
		before, after, found := strings.Cut(rest, "${")
		if !found {
			break
		}
		if plain, escaped := strings.CutSuffix(before, "$"); escaped {
			b.WriteString(plain + "${")
			rest = after
			continue
		}
		inside, tail, closed := strings.Cut(after, "}")
		if !closed {
			return "", false, errors.New("${ is never closed; write $${ for the characters themselves")
		}
		value, err := d.variable(inside)
		if err != nil {
			return "", false, err
		}
		b.WriteString(before + value)
		rest, fromOutside = tail, true
		if d.expanded+b.Len() > maxExpanded {
			return "", false, errExpanded
		}
	}
	b.WriteString(rest)
	if d.expanded += b.Len(); d.expanded > maxExpanded {
		return "", false, errExpanded
	}
	return b.String(), fromOutside, nil
}

// minHidden is the length from which a value of the environment is kept out of problems: putting a
// shorter one back as ${NAME} would garble the sentences round it.
const minHidden = 6

// variable returns the value of what stands between the braces.
func (d *decoder) variable(inside string) (string, error) {
	name, fallback, hasFallback := strings.Cut(inside, ":-")
	if !isName(name) {
		return "", fmt.Errorf("${%s} is not a variable; write ${NAME} or ${NAME:-default}, and $${ for the characters themselves", inside)
	}
	value, set := os.LookupEnv(name)
	if hasFallback && value == "" {
		return fallback, nil
	}
	if !set {
		return "", fmt.Errorf("the environment has no %s; set it, or write ${%s:-default}", name, name)
	}
	if len(value) >= minHidden {
		d.source.shown[value] = "${" + name + "}"
	}
	return value, nil
}

func isName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// secret reads "file:/path", which only the file itself may write: a variable's value is never a path.
func (d *decoder) secret(written, text string, fromOutside bool) (string, bool, error) {
	if strings.HasPrefix(written, "file:") {
		text, err := d.secretFile(strings.TrimPrefix(text, "file:"))
		return text, true, err
	}
	if text == "" && fromOutside && !strings.Contains(written, ":-") { // ${NAME:-} says that none will do
		return "", false, fmt.Errorf("%s is empty", written)
	}
	return text, fromOutside, nil
}

// secretFile reads a secret; a relative path starts where the configuration lies.
func (d *decoder) secretFile(path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(d.source.name), path)
	}
	d.source.files = append(d.source.files, path)
	data, err := readFile(path, maxSecret)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(data), "\r\n")
	if text == "" {
		return "", fmt.Errorf("the file %s is empty", path)
	}
	return text, nil
}

// readFile reads a regular file of at most limit bytes: not a pipe that never ends, not a device.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return data, err
}
