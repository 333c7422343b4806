package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/nexus-gateway/nexus/core/setting"
)

const (
	maxFile  = 1 << 20 // bytes of one file
	maxNodes = 100_000 // values read, an alias counting as all that it stands for
	maxDepth = 64      // sections and lists inside each other
)

// A decoder reads one file into one struct and notes everything that is wrong on the way.
type decoder struct {
	source   *Source
	problems []Problem
	nodes    int
	depth    int
	expanded int // bytes of scalars after expansion
}

// Decode reads the YAML in data strictly into the struct or list that into points to, sets the defaults
// of what is absent and validates all of it. The error is an *Error with every problem found. The Source
// is never nil.
func Decode(name string, data []byte, into any) (*Source, error) {
	d := &decoder{source: &Source{name: name, at: map[string]position{}, shown: map[string]string{}}}
	v := reflect.ValueOf(into).Elem()
	v.SetZero()
	if root := d.parse(data, v.Type()); root != nil {
		d.value(root, v, field{}, "")
		d.validate(v)
	}
	return d.source, asError(name, d.problems)
}

func (d *decoder) addf(n *yaml.Node, path, format string, args ...any) {
	if len(d.problems) < 10*maxProblems { // an alias may repeat one mistake many times
		d.problems = append(d.problems, d.source.problem(position{n.Line, n.Column}, path, fmt.Sprintf(format, args...)))
	}
}

// parse returns the file's one document, or nil and a problem.
func (d *decoder) parse(data []byte, t reflect.Type) *yaml.Node {
	if len(data) > maxFile {
		d.addf(&yaml.Node{}, "", "is %d bytes long; the most is %d", len(data), maxFile)
		return nil
	}
	if bad := invalidUTF8(data); bad >= 0 {
		d.addf(&yaml.Node{Line: 1 + bytes.Count(data[:bad], []byte("\n"))}, "", "is not UTF-8 text")
		return nil
	}
	root, err := read(data)
	switch {
	case err != nil:
		d.addf(&yaml.Node{Line: lineOf(data, err)}, "", "%v", err)
	case root == nil || isNull(root):
		d.addf(&yaml.Node{}, "", "is empty%s", emptyForm(t))
	default:
		return root
	}
	return nil
}

// read returns the one document of data; nil when there is none. The parser is not ours, and what a
// file holds must never end a gateway that is running: its panics are errors.
func read(data []byte) (root *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			root, err = nil, fmt.Errorf("the YAML parser gave up: %v", p)
		}
	}()
	documents := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	switch err := documents.Decode(&first); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, withoutLine(err)
	}
	switch err := documents.Decode(&second); {
	case errors.Is(err, io.EOF):
		return first.Content[0], nil
	case err != nil:
		return nil, withoutLine(err)
	}
	return nil, errors.New("a second document begins here; a file holds one")
}

func withoutLine(err error) error {
	return errors.New(lineOfParser.ReplaceAllString(err.Error(), ""))
}

var lineOfParser = regexp.MustCompile(`^(yaml: )?(line \d+: )?`)

// lineOf returns the first line with which the file is wrong in this way. The parser's own line is
// often that of the section around the fault.
func lineOf(data []byte, fault error) int {
	var ends []int
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	ends = append(ends, len(data))
	return 1 + sort.Search(len(ends)-1, func(i int) bool {
		_, err := read(data[:ends[i]])
		return err != nil && err.Error() == fault.Error()
	})
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// enter follows an alias and refuses what would make a file mean more than it says: custom tags,
// bombs of aliases and aliases of themselves.
func (d *decoder) enter(n *yaml.Node, path string) (*yaml.Node, bool) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if d.nodes++; d.nodes > maxNodes || d.depth > maxDepth {
		if d.nodes < 2*maxNodes { // say it once
			d.nodes = 2 * maxNodes
			d.addf(n, path, "is too deep or too long: a file holds at most %d values in %d levels, aliases counted as what they stand for", maxNodes, maxDepth)
		}
		return nil, false
	}
	switch n.ShortTag() {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!map", "!!seq", "!!merge":
		return n, true
	}
	d.addf(n, path, "carries the tag %s; tags are not read", n.ShortTag())
	return nil, false
}

// value reads n into v, which is one of the kinds that the package doc lists.
func (d *decoder) value(n *yaml.Node, v reflect.Value, f field, path string) {
	n, ok := d.enter(n, path)
	if !ok {
		return
	}
	d.depth++
	defer func() { d.depth-- }()
	if isNull(n) && v.Kind() != reflect.Interface {
		d.addf(n, path, "has no value%s", emptyForm(v.Type()))
		return
	}
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), f, path)
	case isScalar(v.Type()):
		d.scalar(n, v, f, path)
	case v.Kind() == reflect.Struct:
		d.section(n, v, path)
	case v.Kind() == reflect.Map:
		d.table(n, v, f, path)
	case v.Kind() == reflect.Slice:
		d.list(n, v, f, path)
	case v.Kind() == reflect.Interface:
		if x := d.free(n, path); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	default:
		d.addf(n, path, "no setting can be of type %s", v.Type())
	}
}

// section reads a mapping into a struct, over its defaults.
func (d *decoder) section(n *yaml.Node, v reflect.Value, path string) {
	known := fields(v.Type())
	if err := setDefaults(v); err != nil {
		d.addf(n, path, "%v", err)
	}
	d.pairs(n, path, func(key, value *yaml.Node, path string) {
		f, ok := find(known, key.Value)
		if !ok {
			d.addf(key, path, "unknown key%s", hint(key.Value, known))
			return
		}
		d.value(value, v.FieldByIndex(f.index), f, path)
	})
}

func (d *decoder) table(n *yaml.Node, v reflect.Value, f field, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, path, func(key, value *yaml.Node, path string) {
		if key.Value == "" {
			d.addf(key, path, "a name is empty")
			return
		}
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(value, item, f, path)
		v.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), item)
	})
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, f field, path string) {
	if n.Kind != yaml.SequenceNode {
		d.addf(n, path, "wants a list, not %s", saw(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		at := path + "[" + strconv.Itoa(i) + "]"
		d.source.at[at] = position{item.Line, item.Column}
		d.value(item, v.Index(i), f, at)
	}
}

// pairs calls each for every pair of a mapping, once per key, with the path of its value.
func (d *decoder) pairs(n *yaml.Node, path string, each func(key, value *yaml.Node, path string)) {
	if n.Kind != yaml.MappingNode {
		d.addf(n, path, "wants a section of keys, not %s", saw(n))
		return
	}
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || isNull(key) {
			d.addf(key, path, "a key must be plain text, not %s", saw(key))
			continue
		}
		if key.ShortTag() == "!!merge" {
			d.addf(key, path, "merge keys (<<) are not read; write the keys out")
			continue
		}
		at := join(path, key.Value)
		if line := first[key.Value]; line > 0 {
			d.addf(key, at, "stands twice in its section; first in line %d", line)
			continue
		}
		first[key.Value] = key.Line
		d.source.at[at] = position{key.Line, key.Column}
		each(key, value, at)
	}
}

// free reads what only its owner understands, such as a plugin's configuration, as encoding/json would.
func (d *decoder) free(n *yaml.Node, path string) any {
	n, ok := d.enter(n, path)
	if !ok {
		return nil
	}
	d.depth++
	defer func() { d.depth-- }()
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		d.pairs(n, path, func(key, value *yaml.Node, path string) { m[key.Value] = d.free(value, path) })
		return m
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = d.free(item, path+"["+strconv.Itoa(i)+"]")
		}
		return list
	}
	return d.freeScalar(n, path)
}

// validate calls Validate on everything that was read. A fault of a setting that could not be read is
// a consequence, and left out.
func (d *decoder) validate(v reflect.Value) {
	unread := make(map[string]bool, len(d.problems))
	for _, p := range d.problems {
		unread[p.Path] = true
	}
	found := setting.NewProblems()
	check(v, found)
	for _, p := range found.All() {
		if !within(p.Path, unread) {
			d.problems = append(d.problems, d.source.problem(d.source.find(p.Path), p.Path, p.Text))
		}
	}
}

func within(path string, set map[string]bool) bool {
	for !set[path] {
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return false
		}
		path = path[:cut]
	}
	return true
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
