package core

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// The budget of the house style, for code that is not a test.
const (
	maxFunction = 80  // lines, tables not counted
	maxP90      = 40  // lines of the 90th of 100 functions
	maxMedian   = 10  // lines
	maxFile     = 400 // lines
	maxParams   = 5
	maxMethods  = 5 // of an interface
	maxNesting  = 4 // of blocks in a function; aim at 3
)

// vague are package names that say nothing of what a package is for.
var vague = []string{"util", "utils", "common", "types", "helper", "helpers", "interfaces", "errors", "base", "misc", "shared"}

func TestStyleBudget(t *testing.T) {
	var lengths []int
	for _, s := range tree(t) {
		if s.test() || ast.IsGenerated(s.file) {
			continue
		}
		for _, fault := range styleFaults(s) {
			t.Error(fault)
		}
		lengths = append(lengths, functionLengths(s)...)
	}
	slices.Sort(lengths)
	median, p90 := lengths[len(lengths)/2], lengths[len(lengths)*9/10]
	t.Logf("%d functions: median %d lines, p90 %d", len(lengths), median, p90)
	if median > maxMedian || p90 > maxP90 {
		t.Errorf("functions have a median of %d lines and a p90 of %d; the budget is %d and %d", median, p90, maxMedian, maxP90)
	}
}

// styleFaults says where a file goes over the budget.
func styleFaults(s source) []string {
	var faults []string
	addf := func(p token.Pos, format string, args ...any) {
		faults = append(faults, s.at(p)+": "+fmt.Sprintf(format, args...))
	}
	if n := s.fset.File(s.file.FileStart).LineCount(); n > maxFile {
		addf(s.file.Package, "the file has %d lines, over %d: does it tell two stories?", n, maxFile)
	}
	if name := s.file.Name; slices.Contains(vague, strings.TrimSuffix(name.Name, "_test")) {
		addf(name.Pos(), "package %s: the name does not say what the package is for", name.Name)
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil && isUnder(s.pkg(), []string{"core", "cmd"}) {
				addf(n.Pos(), "func init: make it in New, where it can be seen and fail")
			}
			if lines := lengthOf(s, n); lines > maxFunction {
				addf(n.Pos(), "%s has %d lines, over %d", n.Name.Name, lines, maxFunction)
			}
			if n.Body != nil {
				deepest(n.Body, n.Name.Name, addf)
			}
		case *ast.FuncLit:
			deepest(n.Body, "the function literal", addf)
		case *ast.FuncType:
			if count := n.Params.NumFields(); count > maxParams {
				addf(n.Pos(), "%d parameters, over %d", count, maxParams)
			}
		case *ast.InterfaceType:
			if count := n.Methods.NumFields(); count > maxMethods {
				addf(n.Pos(), "the interface has %d methods, over %d", count, maxMethods)
			}
		}
		return true
	})
	return faults
}

func functionLengths(s source) []int {
	var lengths []int
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
			lengths = append(lengths, lengthOf(s, f))
		}
	}
	return lengths
}

// lengthOf is a function's lines from its first to its last, without those of tables: composite literals, and
// switches whose every case is a single line.
func lengthOf(s source, f *ast.FuncDecl) int {
	lines := span(s, f)
	if f.Body == nil {
		return lines
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			lines -= span(s, n) - 1
			return false
		case *ast.SwitchStmt:
			if isTable(s, n.Body) {
				lines -= span(s, n) - 1
				return false
			}
		}
		return true
	})
	return lines
}

func span(s source, n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}

func isTable(s source, body *ast.BlockStmt) bool {
	return !slices.ContainsFunc(body.List, func(stmt ast.Stmt) bool {
		c := stmt.(*ast.CaseClause)
		return len(c.Body) != 1 || span(s, c.Body[0]) != 1
	})
}

// deepest reports the first block of body that is nested over maxNesting. Function literals are measured by
// themselves, and the branches of an else-if chain or a switch stand on one level.
func deepest(body *ast.BlockStmt, name string, addf func(token.Pos, string, ...any)) {
	told := false
	var walk func(n ast.Node, depth int)
	walk = func(n ast.Node, depth int) {
		ast.Inspect(n, func(inner ast.Node) bool {
			if inner == n || inner == nil {
				return true
			}
			blocks := blocksOf(inner)
			if _, isFunc := inner.(*ast.FuncLit); isFunc || blocks == nil {
				return !isFunc
			}
			if depth+1 > maxNesting && !told {
				told = true
				addf(inner.Pos(), "%s nests %d deep, over %d: return early or take a part out", name, depth+1, maxNesting)
			}
			for _, b := range blocks {
				walk(b, depth+1)
			}
			return false
		})
	}
	walk(body, 0)
}

// blocksOf are the blocks that a statement opens; nil: none.
func blocksOf(n ast.Node) []*ast.BlockStmt {
	switch n := n.(type) {
	case *ast.ForStmt:
		return []*ast.BlockStmt{n.Body}
	case *ast.RangeStmt:
		return []*ast.BlockStmt{n.Body}
	case *ast.SwitchStmt:
		return []*ast.BlockStmt{n.Body}
	case *ast.TypeSwitchStmt:
		return []*ast.BlockStmt{n.Body}
	case *ast.SelectStmt:
		return []*ast.BlockStmt{n.Body}
	case *ast.IfStmt:
		blocks := []*ast.BlockStmt{n.Body}
		switch other := n.Else.(type) {
		case *ast.BlockStmt:
			blocks = append(blocks, other)
		case *ast.IfStmt:
			blocks = append(blocks, blocksOf(other)...)
		}
		return blocks
	}
	return nil
}

func TestStyleFaults(t *testing.T) {
	long := strings.Repeat("\tprintln()\n", 90)
	tests := []struct {
		name, path, text, want string
	}{
		{"clean", "core/a/a.go", "package a\nfunc f(a, b, c, d, e int) {}\n", ""},
		{"six parameters", "core/a/a.go", "package a\nfunc f(a, b, c, d, e, g int) {}\n", "a.go:2: 6 parameters"},
		{"six parameters of a literal", "core/a/a.go", "package a\nvar f = func(a, b, c, d, e, g int) {}\n", "6 parameters"},
		{"long function", "core/a/a.go", "package a\nfunc f() {\n" + long + "}\n", "f has 92 lines"},
		{"long table", "core/a/a.go", "package a\nfunc f() []int {\n\treturn []int{\n" + strings.Repeat("1,\n", 90) + "}\n}\n", ""},
		{"long switch of one-liners", "core/a/a.go", "package a\nfunc f(n int) {\nswitch n {\n" + strings.Repeat("case 1:\nprintln()\n", 45) + "}\n}\n", ""},
		{"long switch of more", "core/a/a.go", "package a\nfunc f(n int) {\nswitch n {\n" + strings.Repeat("case 1:\nprintln()\nprintln()\n", 45) + "}\n}\n", "f has 139 lines"},
		{"long file", "core/a/a.go", "package a\n" + strings.Repeat("//\n", 400), "over 400"},
		{"six methods", "core/a/a.go", "package a\ntype I interface { A(); B(); C(); D(); E(); F() }\n", "6 methods"},
		{"five methods", "core/a/a.go", "package a\ntype I interface { A(); B(); C(); D(); E() }\n", ""},
		{"vague name", "core/util/a.go", "package util\n", "package util"},
		{"init in core", "core/a/a.go", "package a\nfunc init() {}\n", "func init"},
		{"init elsewhere", "plugins/a/a.go", "package main\nfunc init() {}\n", ""},
		{"a method named init", "core/a/a.go", "package a\ntype T int\nfunc (T) init() {}\n", ""},
		{"four deep", "core/a/a.go", "package a\nfunc f() { if true { for { switch { case true: if true {} } } } }\n", ""},
		{"five deep", "core/a/a.go", "package a\nfunc f() { if true { for { switch { case true: if true { select {} } } } } }\n", "f nests 5 deep"},
		{"else-if is flat", "core/a/a.go", "package a\nfunc f() { if true {} else if true {} else if true {} else if true {} else if true {} }\n", ""},
		{"five deep after else", "core/a/a.go", "package a\nfunc f() { if true {} else { for { for { for { for {} } } } } }\n", "f nests 5 deep"},
		{"a literal begins anew", "core/a/a.go", "package a\nfunc f() { for { for { for { func() { for { for {} } }() } } } }\n", ""},
		{"five deep in a literal", "core/a/a.go", "package a\nvar f = func() { for { for { for { for { for {} } } } } }\n", "the function literal nests 5 deep"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(styleFaults(parse(t, tt.path, tt.text)), "; ")
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
