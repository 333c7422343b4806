package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/policies"
)

// Sources is what a policy is compiled from.
type Sources struct {
	Files fs.FS    // *.rego, anywhere below; data.json at the root unless Data is set
	Name  string   // what the folder is called in messages; put before every file's name
	Data  []byte   // the JSON object read as data; nil: data.json of Files
	From  string   // what Data is called in messages
	Pools []string // the pools there are, read as data.gateway.pools; nil: any pool may be named
	YAML  Decode   // reads the tables of tests, *_test.yaml; nil: a folder that has some cannot be tested
}

// Bounds on what is read.
const (
	maxFiles = 1000
	maxRego  = 8 << 20  // bytes, all files together
	maxData  = 64 << 20 // bytes
)

const dataFile = "data.json"

// Shipped returns the policies that Nexus carries.
func Shipped() Sources { return Sources{Files: policies.Shipped(), Name: "policies"} }

// Sources returns what c names, for a gateway that has these pools.
func (c *Config) Sources(pools []string) (Sources, error) {
	src := Shipped()
	if c.Dir != "" {
		if info, err := os.Stat(c.Dir); err != nil {
			return Sources{}, fmt.Errorf("policy: folder %s: %w", c.Dir, err)
		} else if !info.IsDir() {
			return Sources{}, fmt.Errorf("policy: %s is not a folder", c.Dir)
		}
		src = Sources{Files: os.DirFS(c.Dir), Name: filepath.ToSlash(c.Dir)}
	}
	src.Pools = pools
	if c.Data == "" {
		return src, nil
	}
	f, err := os.Open(c.Data)
	if err != nil {
		return Sources{}, fmt.Errorf("policy: data %s: %w", c.Data, err)
	}
	defer f.Close()
	src.From = c.Data
	src.Data, err = bounded(f, maxData, c.Data)
	return src, err
}

// files is the text of a policy, read whole.
type files struct {
	rego     map[string]string // by name in messages
	tests    map[string]string
	tables   map[string]string // tests in YAML
	yaml     Decode            // reads tables; nil: nobody does
	data     []byte
	from     string // name of data in messages
	root     string // what stands before every name in messages
	pools    []string
	content  string // hash of all of the above but pools
	hash     string // of content and pools: what is compiled
	revision string
}

// read takes in all of src at once, so that what is hashed is what is compiled.
func (src Sources) read() (*files, error) {
	if src.Files == nil {
		pools, decode := src.Pools, src.YAML
		src = Shipped()
		src.Pools, src.YAML = pools, decode
	}
	f := &files{rego: map[string]string{}, tests: map[string]string{}, tables: map[string]string{}, yaml: src.YAML, root: src.Name, pools: slices.Sorted(slices.Values(src.Pools))}
	if src.Pools == nil {
		f.pools = nil
	}
	size := 0
	err := fs.WalkDir(src.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return src.take(f, name, d, &size)
	})
	if err == nil {
		err = src.readData(f)
	}
	if err != nil {
		return nil, fmt.Errorf("policy: read %s: %w", folder(src.Name), err)
	}
	if len(f.rego) == 0 {
		return nil, fmt.Errorf("policy: %s holds no .rego file", folder(src.Name))
	}
	return f.named(""), nil
}

// named gives f its hashes and its revision; empty: a part of the content's hash, which is the same wherever the folder
// lies.
func (f *files) named(revision string) *files {
	f.content = f.sum("", f.from)
	f.revision = cut(revision, maxName)
	if revision == "" {
		f.revision = f.sum(f.root, "")[:12]
	}
	return f.among(f.pools)
}

// among returns f for a gateway that has these pools, in order; nil: any.
func (f *files) among(pools []string) *files {
	g := *f
	g.pools, g.hash = pools, f.content
	if pools != nil {
		sum := sha256.Sum256([]byte(f.content + "\n" + strings.Join(pools, "\n")))
		g.hash = hex.EncodeToString(sum[:])
	}
	return &g
}

// take reads one entry of the folder. Names that begin with a dot are left out: a mounted ConfigMap
// keeps its files a second time under such names.
func (src Sources) take(f *files, name string, d fs.DirEntry, size *int) error {
	if name != "." && strings.HasPrefix(path.Base(name), ".") {
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	into := f.kind(name)
	if d.IsDir() || into == nil {
		return nil
	}
	if len(f.rego)+len(f.tests)+len(f.tables) == maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	b, err := readFile(src.Files, name, maxRego-*size)
	if err != nil {
		return err
	}
	*size += len(b)
	into[path.Join(src.Name, name)] = string(b)
	return nil
}

// kind is where a file of this name belongs; nil when it is none of a policy's.
func (f *files) kind(name string) map[string]string {
	switch {
	case strings.HasSuffix(name, "_test.rego"):
		return f.tests
	case path.Ext(name) == ".rego":
		return f.rego
	case strings.HasSuffix(name, "_test.yaml"):
		return f.tables
	}
	return nil
}

func (src Sources) readData(f *files) (err error) {
	f.data, f.from = src.Data, src.From
	if f.data != nil {
		return nil
	}
	f.from = path.Join(src.Name, dataFile)
	f.data, err = readFile(src.Files, dataFile, maxData)
	if errors.Is(err, fs.ErrNotExist) {
		f.data, err = []byte("{}"), nil
	}
	return err
}

func readFile(fsys fs.FS, name string, limit int) ([]byte, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return bounded(file, limit, name)
}

func bounded(r io.Reader, limit int, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, nil
}

// sum is the hash of all that the policy's author wrote.
// The names count without root before them.
func (f *files) sum(root, from string) string {
	h := sha256.New()
	part := func(s string) { fmt.Fprintf(h, "%d:", len(s)); io.WriteString(h, s) }
	for _, set := range []map[string]string{f.rego, f.tests, f.tables} {
		for _, name := range slices.Sorted(maps.Keys(set)) {
			part(strings.TrimPrefix(name, root))
			part(set[name])
		}
		part("")
	}
	part(string(f.data))
	part(from)
	return hex.EncodeToString(h.Sum(nil))
}

func folder(name string) string {
	if name == "" {
		return "the policy folder"
	}
	return name
}
