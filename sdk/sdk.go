// Package sdk carries the sources of every SDK, so that `nexus plugin new` can lay one beside a new plugin and nothing is
// fetched.
package sdk

import (
	"archive/zip"
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed abi/*.go go/*.go go/build go/sample
//go:embed assemblyscript/build assemblyscript/nexus assemblyscript/sample assemblyscript/*.json
//go:embed c
//go:embed rust
var sources embed.FS

// Name is what every sample calls itself, wherever a plugin's own name belongs.
const Name = "nexus-sample"

// Languages are those that there is an SDK for.
var Languages = []string{"go", "assemblyscript", "rust", "c"}

// Files are what a new plugin in a language begins with: the sample, which works, and the SDK beside it. The plugin's
// name stands in them as Name. Scripts begin with #! and are to be made executable.
func Files(lang string) (fs.FS, error) {
	if !slices.Contains(Languages, lang) {
		return nil, fmt.Errorf("there is no SDK for %q; there are %s", lang, strings.Join(Languages, ", "))
	}
	all := map[string][]byte{}
	err := fs.WalkDir(sources, lang, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := sources.ReadFile(name)
		if to := place(lang, strings.TrimPrefix(name, lang+"/")); to != "" {
			all[to] = text
		}
		return err
	})
	if text, no := sources.ReadFile(lang + "/README.md"); no == nil && all["README.md"] == nil {
		all["README.md"] = text
	}
	if err == nil && lang == "go" {
		err = module(all)
	}
	if err != nil {
		return nil, fmt.Errorf("the SDK for %s: %w", lang, err)
	}
	return packed(all)
}

// place is where a file of an SDK goes in a new plugin's folder; empty: it stays here.
func place(lang, name string) string {
	dir, rest, inside := strings.Cut(name, "/")
	switch {
	case dir == "sample" && inside:
		return rest
	case dir == "nexus" && inside:
		return name
	case inside || strings.HasSuffix(name, ".md") || strings.Contains(name, "_test."):
		return "" // the probe, and what tests the SDK itself
	case name == "build" || name == "test" || lang == "assemblyscript":
		return name
	}
	return "nexus/" + name
}

// goVersion is the first whose compiler exports functions of a library.
const goVersion = "1.24"

// module makes a Go module of its own: the SDK's packages are found inside it.
func module(all map[string][]byte) error {
	const home = "github.com/nexus-gateway/nexus/sdk/"
	contract, err := sources.ReadFile("abi/abi.go")
	if err != nil {
		return err
	}
	all["nexus/abi/abi.go"] = contract
	for name, text := range all {
		text = bytes.ReplaceAll(text, []byte(`"`+home+`go"`), []byte(`"`+Name+`/nexus"`))
		all[name] = bytes.ReplaceAll(text, []byte(`"`+home+`abi"`), []byte(`"`+Name+`/nexus/abi"`))
	}
	all["go.mod"] = []byte("module " + Name + "\n\ngo " + goVersion + "\n")
	return nil
}

// packed makes a file system of files.
func packed(all map[string][]byte) (fs.FS, error) {
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range names {
		w, err := z.CreateHeader(&zip.FileHeader{Name: path.Clean(name), Method: zip.Store})
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(all[name]); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
}
