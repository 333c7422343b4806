package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/cover"
)

// A Coverage tells which lines of a policy its tests reach.
type Coverage struct {
	Files   []FileCoverage `json:"files"`
	Percent float64        `json:"percent"`
}

// A FileCoverage is the coverage of one file.
type FileCoverage struct {
	File    string  `json:"file"`
	Percent float64 `json:"percent"`
	Missing []Lines `json:"missing,omitempty"`
}

// Lines are lines of a file, the last included.
type Lines struct {
	From int `json:"from"`
	To   int `json:"to"`
}

func (l Lines) String() string {
	if l.From == l.To {
		return fmt.Sprint(l.From)
	}
	return fmt.Sprintf("%d-%d", l.From, l.To)
}

// coverageOf keeps the policy's own files: neither tests nor the library count.
func coverageOf(r cover.Report) *Coverage {
	c := &Coverage{}
	reached, all := 0, 0
	for _, name := range slices.Sorted(maps.Keys(r.Files)) {
		f := r.Files[name]
		lines := f.CoveredLines + f.NotCoveredLines
		if strings.HasSuffix(name, "_test.rego") || strings.HasPrefix(name, libraryName) || lines == 0 {
			continue
		}
		reached, all = reached+f.CoveredLines, all+lines
		c.Files = append(c.Files, FileCoverage{name, 100 * float64(f.CoveredLines) / float64(lines), missing(f)})
	}
	c.Percent = 100
	if all > 0 {
		c.Percent = 100 * float64(reached) / float64(all)
	}
	return c
}

// missing are the lines that no test reaches, neighbours together.
func missing(f *cover.FileReport) (list []Lines) {
	rows := map[int]bool{}
	for _, r := range f.NotCovered {
		for row := r.Start.Row; row <= r.End.Row; row++ {
			rows[row] = rows[row] || !f.IsCovered(row)
		}
	}
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		switch last := len(list) - 1; {
		case !rows[row]:
		case last >= 0 && list[last].To == row-1:
			list[last].To = row
		default:
			list = append(list, Lines{row, row})
		}
	}
	return list
}

// String lists each file with its share and the lines that are missing, and the share of all.
func (c *Coverage) String() string {
	var b strings.Builder
	width := 0
	for _, f := range c.Files {
		width = max(width, len(f.File))
	}
	for _, f := range c.Files {
		fmt.Fprintf(&b, "%-*s  %5.1f %%", width, f.File, f.Percent)
		for i, l := range f.Missing {
			before := ", "
			if i == 0 {
				before = "  not reached: "
			}
			b.WriteString(before + l.String())
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%-*s  %5.1f %%\n", width, "covered", c.Percent)
	return b.String()
}
