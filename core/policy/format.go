package policy

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// A Formatting is a file as it is, and as the formatter writes it.
type Formatting struct {
	Name          string
	Before, After string
}

// Formatted lists the files of src that the formatter would write differently, tests among them. The error is Errors when
// a file is not Rego.
func Formatted(src Sources) (list []Formatting, err error) {
	f, err := src.read()
	if err != nil {
		return nil, err
	}
	all := maps.Clone(f.rego)
	maps.Copy(all, f.tests)
	if _, err := parse(all); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		after, err := format.SourceWithOpts(name, []byte(all[name]), format.Opts{RegoVersion: ast.RegoV1})
		if err != nil {
			return nil, err
		}
		if string(after) != all[name] {
			list = append(list, Formatting{name, all[name], string(after)})
		}
	}
	return list, nil
}
