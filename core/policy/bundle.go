package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// maxUnpacked bounds a bundle's files together, in bytes.
const maxUnpacked = maxRego + maxData + 1<<20

// unpack reads the bundle in raw, and verifies its signature if c has keys. name is what it is called in
// messages. The files are read to the last byte before anything is made of them, so that a bundle that is cut
// off or damaged is never taken for a smaller one.
func (c *BundleConfig) unpack(raw []byte, name string) (*files, error) {
	tables, err := c.survey(raw, maxUnpacked)
	if err != nil {
		return nil, fmt.Errorf("policy: bundle %s: %w", name, err)
	}
	r := bundle.NewCustomReader(bundle.NewTarballLoader(bytes.NewReader(raw)).WithSizeLimitBytes(maxUnpacked)).
		WithSizeLimitBytes(maxUnpacked).WithLazyLoadingMode(false).WithRegoVersion(ast.RegoV1).
		WithBundleVerificationConfig(c.verification())
	b, err := r.Read()
	var mistakes ast.Errors
	if errors.As(err, &mistakes) {
		return nil, explain(placed(mistakes, name))
	}
	if err != nil {
		return nil, fmt.Errorf("policy: bundle %s: %w", name, err)
	}
	switch {
	case b.Type() != bundle.SnapshotBundleType:
		return nil, fmt.Errorf("policy: bundle %s: is a delta; only whole bundles are taken", name)
	case c.MinRevision != "" && b.Manifest.Revision == "":
		return nil, fmt.Errorf("policy: bundle %s: has no revision, which bundle.min_revision asks for (opa build -r)", name)
	case len(b.WasmModules)+len(b.PlanModules) > 0:
		return nil, fmt.Errorf("policy: bundle %s: holds compiled policies; build it from Rego alone (opa build -t rego)", name)
	}
	return filesOf(&b, tables, name)
}

// survey walks through the archive: what OPA's reader takes on trust, the sizes that the archive claims above
// all, is bounded here, to limit bytes unpacked. It returns the tables of tests, which OPA verifies but does not
// keep.
func (c *BundleConfig) survey(raw []byte, limit int64) (map[string]string, error) {
	zip, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("is not a .tar.gz: %w", err)
	}
	bounded := &io.LimitedReader{R: zip, N: limit}
	archive, seen, tables := tar.NewReader(bounded), map[string]bool{}, map[string]string{}
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, archiveError(err, bounded, limit)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := c.admit(h, seen, limit); err != nil {
			return nil, err
		}
		if !isTable(h.Name) {
			continue
		}
		if tables[h.Name], err = archiveText(archive); err != nil {
			return nil, archiveError(err, bounded, limit)
		}
	}
	_, err = io.Copy(io.Discard, bounded) // gzip's checksum stands at the end
	if err != nil || bounded.N == 0 {
		return nil, archiveError(err, bounded, limit)
	}
	return tables, nil
}

// admit reports why one file of the archive may not be in it.
func (c *BundleConfig) admit(h *tar.Header, seen map[string]bool, limit int64) error {
	name := path.Clean("/" + h.Name)
	switch {
	case h.Size > limit:
		return fmt.Errorf("%s unpacks to more than %d bytes", name, limit)
	case seen[name]:
		return fmt.Errorf("%s stands in it twice", name)
	case len(seen) == maxFiles:
		return fmt.Errorf("more than %d files", maxFiles)
	case bundle.IsSignaturesFile(name) && len(c.Keys) == 0:
		return errors.New("is signed, but no key is configured to verify it: set bundle.keys")
	}
	seen[name] = true
	return nil
}

func isTable(name string) bool {
	return strings.HasSuffix(name, "_test.yaml") && !strings.HasPrefix(path.Base(name), ".")
}

func archiveText(r io.Reader) (string, error) {
	b, err := io.ReadAll(r)
	return string(b), err
}

func archiveError(err error, r *io.LimitedReader, limit int64) error {
	if r.N == 0 {
		return fmt.Errorf("unpacks to more than %d bytes", limit)
	}
	return fmt.Errorf("read the archive: %w", err)
}

// placed puts the bundle's name before the files that OPA found mistakes in.
func placed(errs ast.Errors, name string) ast.Errors {
	for _, err := range errs {
		if err.Location != nil {
			at := *err.Location
			at.File = path.Join(name, at.File)
			err.Location = &at
		}
	}
	return errs
}

// filesOf takes from b what a folder of policies would hold.
func filesOf(b *bundle.Bundle, tables map[string]string, name string) (*files, error) {
	f := &files{rego: map[string]string{}, tests: map[string]string{}, tables: map[string]string{}, from: path.Join(name, dataFile)}
	size := 0
	for file, text := range tables {
		size += len(text)
		f.tables[path.Join(name, file)] = text
	}
	for _, m := range b.Modules {
		if size += len(m.Raw); size > maxRego {
			return nil, fmt.Errorf("policy: bundle %s: more than %d bytes of Rego", name, maxRego)
		}
		into := f.rego
		if strings.HasSuffix(m.Path, "_test.rego") {
			into = f.tests
		}
		into[path.Join(name, m.Path)] = string(m.Raw)
	}
	if len(f.rego) == 0 {
		return nil, fmt.Errorf("policy: bundle %s holds no .rego file", name)
	}
	var err error
	if f.data, err = json.Marshal(b.Data); err != nil {
		return nil, fmt.Errorf("policy: bundle %s: data: %w", name, err)
	}
	if len(f.data) > maxData {
		return nil, fmt.Errorf("policy: bundle %s: more than %d bytes of data", name, maxData)
	}
	return f.named(printable(b.Manifest.Revision)), nil
}

// printable keeps a revision to what fits a log's column.
func printable(s string) string {
	return cut(strings.Map(func(r rune) rune {
		if r < ' ' || hidden(r) {
			return -1
		}
		return r
	}, s), 128)
}
