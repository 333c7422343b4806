package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/nexus-gateway/nexus/policies"
)

// An Engine decides by one set of policies. It is immutable; many calls may use it at once.
type Engine struct {
	*prepared
	cfg      Config
	revision string
	queue    *queue // that its evaluations take their turns in
}

// prepared is all that depends on the sources alone, so that a reload that leaves them as they were can
// use it again.
type prepared struct {
	hash     string
	compiler *ast.Compiler
	query    ast.Body
	claims   []claim // of its candidates, in their order
	store    storage.Store
	txn      storage.Transaction // read-only, for ever: the store never changes
	data     document            // what the store holds
	memories sync.Pool           // of *memory, forgotten
	pools    map[string]bool     // nil: any
	reads    reads
	warnings []string
	lane     *lane  // nil: topdown evaluates
	why      string // why there is no lane; empty: none was asked for
}

// A Compiler compiles policies and remembers the last ones, so that a reload that did not change them
// costs a hash. The zero value is ready; calls may be concurrent. It outlives reloads.
type Compiler struct {
	mu   sync.Mutex
	last *prepared
}

// Compile compiles src, or takes what it compiled before if src has not changed. An error is Errors
// when the policy itself is at fault.
func (k *Compiler) Compile(ctx context.Context, src Sources, cfg Config) (*Engine, error) {
	f, err := src.read()
	if err != nil {
		return nil, err
	}
	return k.compile(ctx, f, cfg)
}

func (k *Compiler) compile(ctx context.Context, f *files, cfg Config) (_ *Engine, err error) {
	hash := f.hash
	if cfg.Loose {
		hash += " loose"
	}
	if cfg.Engine == engineAuto || cfg.Engine == engineWasm {
		hash += fmt.Sprint(" wasm within ", cfg.Deadline)
	}
	k.mu.Lock()
	p := k.last
	k.mu.Unlock()
	if p == nil || p.hash != hash {
		if p, err = anew(ctx, f, cfg); err != nil {
			return nil, err
		}
		p.hash = hash
		k.mu.Lock()
		k.last = p
		k.mu.Unlock()
	}
	if errs := p.reads.unlisted(cfg); len(errs) > 0 {
		return nil, errs
	}
	if cfg.Engine == engineWasm && p.lane == nil {
		return nil, fmt.Errorf("policy: engine wasm cannot decide as topdown does: %s; leave that out, or set policy.engine to auto", p.why)
	}
	return &Engine{prepared: p, cfg: cfg, revision: f.revision, queue: calls}, nil
}

// compiling is held while OPA compiles: in OPA 1.22 its type checker writes to types that all compilers share
// (ast.mergeTypes), and a bundle, a shadow policy and a reload may be compiled at once.
var compiling sync.Mutex

// anew compiles f for the engines that cfg wants.
func anew(ctx context.Context, f *files, cfg Config) (*prepared, error) {
	compiling.Lock()
	defer compiling.Unlock()
	p, err := prepare(ctx, f, cfg.Loose)
	if err == nil && (cfg.Engine == engineAuto || cfg.Engine == engineWasm) {
		p.addLane(ctx, f, cfg)
	}
	return p, err
}

// Compile compiles src with a compiler of its own.
func Compile(ctx context.Context, src Sources, cfg Config) (*Engine, error) {
	return new(Compiler).Compile(ctx, src, cfg)
}

// Revision names the policies: as their bundle does, or by their content.
func (e *Engine) Revision() string { return e.revision }

// Warnings are what is allowed but unwise, one sentence each.
func (e *Engine) Warnings() []string { return e.warnings }

// Reads lists the paths of input that the policies read, in order.
func (e *Engine) Reads() []string { return e.reads.paths() }

const (
	entrypoint  = "data.nexus.decision"
	libraryName = "nexus library"
)

func prepare(ctx context.Context, f *files, loose bool) (*prepared, error) {
	pools := f.poolSet()
	modules, err := parse(f.rego)
	if err != nil {
		return nil, beside(err, checkPools(modules, pools), lintParsed(modules, loose))
	}
	if err := addLibrary(modules); err != nil {
		return nil, err
	}
	data, err := f.document()
	if err != nil {
		return nil, err
	}
	errs := slices.Concat(checkPools(modules, pools), lintDefault(modules))
	if growth := lintGrowth(modules); len(growth) > 0 { // nor may such a policy be compiled
		return nil, beside(growth, errs, lintParsed(modules, loose), lintPackages(nil, modules))
	}
	compiler := newCompiler(loose)
	if compiler.Compile(modules); compiler.Failed() {
		return nil, beside(explain(compiler.Errors), errs, lintParsed(modules, loose), lintPackages(nil, modules))
	}
	errs = append(errs, lint(compiler)...)
	if !loose {
		errs = append(append(errs, lintShapes(compiler)...), lintPaths(compiler)...)
	}
	if len(errs) > 0 {
		return nil, errs.sorted()
	}
	unbounded := math.MaxInt
	quiet(ast.NewTerm(data), &unbounded) // every evaluation reads the one document
	p := &prepared{compiler: compiler, pools: pools, store: inmem.NewFromASTObject(data), data: document{data}}
	shelf := shelfOf(compiler)
	p.memories.New = func() any { return newMemory(shelf) }
	if p.txn, err = p.store.NewTransaction(ctx); err != nil {
		return nil, fmt.Errorf("policy: open the data: %w", err)
	}
	if p.query, err = compiler.QueryCompiler().Compile(ast.MustParseBody("result = " + entrypoint)); err != nil {
		return nil, fmt.Errorf("policy: compile the query: %w", err)
	}
	if p.claims, err = claimsOf(compiler); err != nil {
		return nil, fmt.Errorf("policy: compile the claims: %w", err)
	}
	p.reads = readsOf(compiler)
	p.warnings = p.reads.warnings()
	return p, nil
}

const maxErrors = 100 // that one stage of the compiler reports

func newCompiler(loose bool) *ast.Compiler {
	guard()
	c := ast.NewCompiler().SetErrorLimit(maxErrors).
		WithCapabilities(capabilities()).
		WithDefaultRegoVersion(ast.RegoV1).
		WithStrict(true)
	if !loose {
		c = c.WithSchemas(schemas())
	}
	return c
}

// schemas registers the schema of input, so that a path it does not know is a compile error.
func schemas() *ast.SchemaSet {
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, inputSchema())
	return set
}

// parse parses every file and reports the mistakes of all of them; files without any are among what it returns all the same.
func parse(rego map[string]string) (map[string]*ast.Module, error) {
	modules := make(map[string]*ast.Module, len(rego))
	var errs ast.Errors
	opts := ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true, Capabilities: capabilities()}
	for name, text := range rego {
		m, err := ast.ParseModuleWithOpts(name, text, opts)
		switch err := err.(type) {
		case nil:
			modules[name] = m
		case ast.Errors:
			errs = append(errs, err...)
		default: // nothing but comments
			errs = append(errs, ast.NewError(ast.ParseErr, ast.NewLocation(nil, name, 1, 1), "the file is empty"))
		}
	}
	if len(errs) > 0 {
		return modules, explain(errs)
	}
	return modules, nil
}

// addLibrary adds the packages of the shipped library that the folder does not bring itself: the decision, which
// is nexus or nexus.decision, and nexus.lib.
func addLibrary(modules map[string]*ast.Module) error {
	own := map[string]bool{}
	for _, m := range modules {
		own[m.Package.Path.String()] = true
	}
	own["data.nexus"] = own["data.nexus"] || own[entrypoint]
	f, err := Sources{Files: policies.Library(), Name: libraryName, Data: []byte("{}")}.read()
	if err != nil {
		return err
	}
	library, err := parse(f.rego)
	for name, m := range library {
		if !own[m.Package.Path.String()] {
			modules[name] = m
		}
	}
	return err
}

// document is the data that policies read: what the operator wrote, and what this gateway has.
func (f *files) document() (ast.Object, error) {
	d := json.NewDecoder(bytes.NewReader(f.data))
	d.UseNumber()
	var raw map[string]any
	if err := d.Decode(&raw); err != nil {
		return nil, f.badData(err, d.InputOffset())
	}
	if d.More() {
		return nil, f.badData(fmt.Errorf("more follows after the object"), d.InputOffset())
	}
	for _, reserved := range []string{"nexus", "gateway"} {
		if _, ok := raw[reserved]; ok {
			return nil, fmt.Errorf("policy: %s: the member %q is reserved", f.from, reserved)
		}
	}
	v, err := ast.InterfaceToValue(raw)
	if err != nil {
		return nil, fmt.Errorf("policy: %s: %w", f.from, err)
	}
	doc, ok := v.(ast.Object)
	if !ok {
		doc = ast.NewObject() // the text was null
	}
	pools := ast.NewObject()
	for _, name := range f.pools {
		pools.Insert(ast.StringTerm(name), ast.BooleanTerm(true))
	}
	doc.Insert(ast.StringTerm("gateway"), ast.ObjectTerm(ast.Item(ast.StringTerm("pools"), ast.NewTerm(pools))))
	return doc, nil
}

func (f *files) badData(err error, offset int64) error {
	switch at := err.(type) {
	case *json.SyntaxError:
		offset = at.Offset
	case *json.UnmarshalTypeError:
		offset = at.Offset
	}
	offset = min(offset, int64(len(f.data)))
	line := 1 + bytes.Count(f.data[:offset], []byte("\n"))
	return fmt.Errorf("policy: %s:%d: %s", f.from, line, strings.TrimPrefix(err.Error(), "json: "))
}

func (f *files) poolSet() map[string]bool {
	if f.pools == nil {
		return nil
	}
	set := make(map[string]bool, len(f.pools))
	for _, name := range f.pools {
		set[name] = true
	}
	return set
}
