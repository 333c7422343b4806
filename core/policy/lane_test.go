package policy

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// auto is a configuration that takes Wasm where it can.
func auto(cfg Config) Config {
	cfg.Engine = engineAuto
	return cfg
}

// inWasm is what e's lane comes to on any input, before its shape is checked.
func inWasm(ctx context.Context, e *Engine, input ast.Object) (ast.Value, error) {
	w := e.lane
	r := w.runs.Get().(*run)
	defer w.runs.Put(r)
	plan{}.write(&facts{}, &r.image)
	r.image.b = r.image.b[:r.image.table+front]
	clear(r.image.b[:r.image.table])
	r.image.begin(level{})
	r.image.members(input)
	r.image.fill(r.image.table, r.image.finish())
	if !r.image.fits() {
		return nil, errDoubt
	}
	g, err := w.pool.Get(ctx)
	if err != nil {
		return nil, failureOf(ctx, err)
	}
	defer w.pool.Put(g)
	_, err = w.run(ctx, g, r, r.image.b, nil)
	if f, ok := err.(*failure); err != nil && (!ok || f.outcome != misshapen) {
		return nil, err
	}
	value, ok := parseWire(r.copier.out)
	if !ok {
		return nil, fmt.Errorf("what was copied cannot be read: %q", r.copier.out)
	}
	return value, nil
}

// agreement counts how often two engines were asked.
type agreement struct{ asked, doubts, decided int }

// agree fails t where Wasm does not come to what topdown comes to, unless it is in doubt.
func (a *agreement) agree(t *testing.T, e *Engine, input ast.Object) {
	t.Helper()
	a.asked++
	got, err := inWasm(t.Context(), e, input)
	if err == errDoubt {
		a.doubts++
		return
	}
	want, wantErr := plainly(e, input)
	if _, ok := err.(*failure); err != nil && !ok {
		t.Fatalf("on %v: %v", input, err)
	}
	if !same(got, err, want, wantErr) {
		t.Fatalf("on %v:\nwasm    %v, %v\ntopdown %v, %v", input, got, err, want, wantErr)
	}
	if err == nil {
		a.decided++
	}
}

// An operand is a value of a kind that builtins take.
var operands = map[string][]string{
	"string": {`""`, `"a"`, `"abc"`, `"aXbXc"`, `"X"`, `"é"`, `"한국어"`, `"x\t y\n"`, `" "`, `"\u00a0a\u3000"`, `"ß"`, `"İ"`, `"ǅ"`, `"12"`, `"-0.5"`, `"1e3"`, `"0x1f"`, `"1_0"`, `" 7"`, `"+7"`, `"🙂b🙂"`, `"NaN"`, `"a\"b\\"`,
		`"10.0.0.0/8"`, `"10.1.2.3"`, `"2026-11-30T20:00:00Z"`, `"1h5m"`, `"1.2.3"`, `"6162"`, `"YWJj"`, `"{\"a\":[1]}"`, `"a*"`, `"[a-b]"`, `"10Mi"`, `"/a/b"`, `"Asia/Seoul"`},
	"number": {"0", "1", "-1", "2", "3", "7", "10", "100", "-7", "24", "65536", "2147483647", "-2147483648", "4294967297", "2562047788024", "-2562047788007", "9007199254740991", "9223372036854775807", "-9223372036854775808", "1000000007", "0.5", "-2.5", "1e300", "0.1", "3.0000000001"},
	"array":  {"[]", `["a"]`, `["b", "a", "b"]`, "[3, 1, 2]", `[{"a": 1}, {"b": 2}, {"a": 3}]`, `[[1], [2, 3]]`, `["x", 1, true, null]`, "[0.5, 1]"},
	"object": {"{}", `{"a": 1}`, `{"a": {"b": 1, "c": [1]}, "d": "x"}`, `{"b": 2, "a": {"b": 2}}`, `{"é": null, "": false}`},
	"bool":   {"true", "false"},
	"null":   {"null"},
}

func anyOperand(dice *rand.Rand) string {
	kinds := slices.Sorted(maps.Keys(operands))
	return one(dice, operands[one(dice, kinds)])
}

func one[T any](dice *rand.Rand, of []T) T { return of[dice.IntN(len(of))] }

// operandKinds are the kinds of operand that a parameter of this type takes; those that only sets fit are made of arrays.
func operandKinds(param string) []string {
	var kinds []string
	for kind := range operands {
		if strings.Contains(param, kind) {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	if len(kinds) == 0 || param == "any" {
		kinds = slices.Sorted(maps.Keys(operands))
	}
	return kinds
}

// infix has the builtins that are written between what they take.
var infix = map[string]string{"plus": "+", "minus": "-", "mul": "*", "div": "/", "rem": "%", "and": "&", "or": "|",
	"equal": "==", "neq": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

// pattern is the pattern of regular expressions, which a policy must write down.
const pattern = "`[a-c]+(X?)|\\p{Hangul}`"

func callOf(name string, n int) string {
	args := []string{"input.a", "input.b", "input.c", "input.d"}[:n]
	if op, ok := infix[name]; ok {
		return args[0] + " " + op + " " + args[1]
	}
	switch {
	case name == "regex.replace":
		args[1] = pattern
	case strings.HasPrefix(name, "regex."):
		args[0] = pattern
	}
	switch name {
	case "internal.member_2":
		return "input.a in input.b"
	case "internal.member_3":
		return "input.a, input.b in input.c"
	case "concat":
		return "concat(input.a, [z | some z in [input.b, input.c]])"
	}
	return name + "(" + strings.Join(args, ", ") + ")"
}

// setsOf makes operands sets, for builtins of sets: input has none.
func setsOf(call string, param string, arg string) string {
	if strings.Contains(param, "set[") && !strings.Contains(param, "any<") {
		return strings.Replace(call, arg, "{y | some y in "+arg+"}", 1)
	}
	return call
}

// Every builtin that the two engines are said to do alike is done alike, on all kinds of operands.
func TestNativeBuiltins(t *testing.T) {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(natives)), func(n string) bool { return natives[n].function == "" })
	for name, a := range tryBuiltins(t, names, 500) {
		if t.Logf("%s %+v", name, a); a.decided == 0 {
			t.Errorf("%s: %+v: nothing was decided", name, a)
		}
	}
}

// What the host does for Wasm comes to what topdown comes to; where it fails, topdown is asked.
func TestHostedBuiltins(t *testing.T) {
	var names []string
	for _, b := range capabilities().Builtins {
		if hosted(b.Name) && !b.IsDeprecated() {
			names = append(names, b.Name)
		}
	}
	for name, a := range tryBuiltins(t, names, 200) {
		if t.Logf("%s %+v", name, a); a.decided == 0 && !slices.Contains(undecided, name) {
			t.Errorf("%s: %+v: nothing was decided", name, a)
		}
	}
	if len(names) < 80 {
		t.Errorf("%d builtins are done by the host", len(names))
	}
}

// undecided come to sets, which topdown makes.
var undecided = []string{"graph.reachable", "net.cidr_merge", "net.cidr_contains_matches"}

// fitting are operands of builtins, by how their names begin, that take little else.
var fitting = map[string][]string{
	"numbers.range": {"1", "-3", "0", "20", "0.5", `"1"`, "[]"}, // the results of others would not fit
	"net.cidr":      {`"10.0.0.0/8"`, `"10.1.2.3"`, `"192.168.0.0/16"`, `"fe80::/10"`, `"x"`},
	"semver":        {`"1.2.3"`, `"1.2.4-rc.1"`, `"2.0"`, `"x"`},
	"time.parse_ns": {`"2006-01-02"`, `"2026-11-30"`, `"x"`},
}

// tryBuiltins asks both engines for each of the builtins n times.
func tryBuiltins(t *testing.T, names []string, n int) map[string]agreement {
	var policy strings.Builder
	policy.WriteString("package nexus\n\ndefault decision := {\"action\": \"deny\"}\n")
	for _, name := range names {
		params := ast.BuiltinMap[name].Decl.NamedFuncArgs().Args
		call := callOf(name, len(params))
		for i, p := range params {
			call = setsOf(call, p.String(), []string{"input.a", "input.b", "input.c", "input.d"}[i])
		}
		fmt.Fprintf(&policy, "\ndecision := {\"action\": x} if {\n\tinput.f == %q\n\tx := (%s)\n}\n", name, call)
	}
	cfg := auto(looseConfig())
	cfg.Deadline = 100 * time.Millisecond
	e := compile(t, cfg, "a.rego", policy.String())
	if e.lane == nil {
		t.Fatal(e.why)
	}
	dice := rand.New(rand.NewPCG(1, 2))
	all := map[string]agreement{}
	for _, name := range names {
		a := agreement{}
		for range n {
			a.agree(t, e, operandsFor(dice, name))
		}
		all[name] = a
	}
	return all
}

// operandsFor is an input for the rule that tries a builtin, most often with operands of the kinds it takes.
func operandsFor(dice *rand.Rand, name string) ast.Object {
	members := []string{fmt.Sprintf(`"f": %q, "c": %s`, name, anyOperand(dice))}
	for i, p := range ast.BuiltinMap[name].Decl.NamedFuncArgs().Args {
		operand := anyOperand(dice)
		if dice.IntN(8) > 0 {
			operand = one(dice, operands[one(dice, operandKinds(p.String()))])
		}
		for front, some := range fitting {
			if strings.HasPrefix(name, front) {
				operand = one(dice, some)
			}
		}
		members = append(members, fmt.Sprintf("%q: %s", string(rune('a'+i)), operand))
	}
	return ast.MustParseTerm("{" + strings.Join(members, ", ") + "}").Value.(ast.Object)
}

// Policies whose rules are easily got wrong come to the same in both engines.
func TestEnginesAgreeOnWhatIsRemembered(t *testing.T) {
	lanes := 0
	for _, tt := range remembering {
		e := compile(t, auto(looseConfig()), "a.rego", "package nexus.routes\n"+tt.rego, "data.json", rememberedData)
		if e.lane == nil {
			t.Logf("%s: %s", tt.name, e.why)
			continue
		}
		lanes++
		a := agreement{}
		for i := range 15 {
			a.agree(t, e, ast.MustParseTerm(fmt.Sprintf(`{"attempt": %d, "request": {"model": "m%d"}}`, 1+i%5, i/5)).Value.(ast.Object))
		}
		t.Logf("%s: %+v", tt.name, a)
	}
	if lanes < 4 {
		t.Errorf("%d policies of %d run in Wasm", lanes, len(remembering))
	}
}

// inputsOf finds the objects that the tests in a folder give as input, whole or as a part of it.
func inputsOf(t *testing.T, dir fs.FS) []ast.Object {
	t.Helper()
	var list []ast.Object
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.rego") {
			return err
		}
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			return err
		}
		modules, err := parse(map[string]string{name: string(text)})
		for _, m := range modules {
			ast.WalkTerms(m, func(term *ast.Term) bool {
				if o, ok := term.Value.(ast.Object); ok && term.IsGround() {
					list = append(list, o)
				}
				return false
			})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// fixtures are the policies that Nexus ships and shows.
func fixtures(t *testing.T) map[string]Sources {
	t.Helper()
	all := map[string]Sources{"shipped": Shipped(), "bench": {Files: os.DirFS(benchDir), Name: "bench"}}
	dirs, err := os.ReadDir(examplesDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if d.IsDir() {
			all[d.Name()] = Sources{Files: os.DirFS(filepath.Join(examplesDir, d.Name())), Name: d.Name()}
		}
	}
	return all
}

// Every policy that is shipped or shown comes to the same in both engines: on what its tests give, and on inputs that
// are put together of that.
func TestEnginesAgreeOnFixtures(t *testing.T) {
	for name, src := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := Compile(t.Context(), src, auto(testConfig()))
			if err != nil {
				t.Fatal(err)
			}
			if e.lane == nil {
				t.Fatal(e.why)
			}
			given := inputsOf(t, src.Files)
			a := agreement{}
			dice := rand.New(rand.NewPCG(3, 4))
			for _, o := range given {
				a.agree(t, e, o)
			}
			for range 300 {
				a.agree(t, e, randomInput(dice, given))
			}
			t.Logf("%+v", a)
			if a.decided == 0 {
				t.Errorf("%+v: nothing was decided", a)
			}
		})
	}
}

// randomInput is an input by the schema, with values of the tests', of the kind that stands there, and of any.
func randomInput(dice *rand.Rand, given []ast.Object) ast.Object {
	input := ast.NewObject()
	for _, f := range table {
		if dice.IntN(6) == 0 {
			continue
		}
		value := randomValue(dice, f, given)
		if f.name == "" {
			input.Insert(ast.StringTerm(f.group), value)
			continue
		}
		group := ast.NewObject()
		if g := input.Get(ast.StringTerm(f.group)); g != nil {
			group = g.Value.(ast.Object)
		} else {
			input.Insert(ast.StringTerm(f.group), ast.NewTerm(group))
		}
		group.Insert(ast.StringTerm(f.name), value)
	}
	return input
}

func randomValue(dice *rand.Rand, f fact, given []ast.Object) *ast.Term {
	if len(given) > 0 && dice.IntN(10) < 8 {
		for range 20 { // one that stands at that place in a test
			var v *ast.Term
			o := one(dice, given)
			if v = o.Get(ast.StringTerm(f.group)); v != nil && f.name != "" {
				group, ok := v.Value.(ast.Object)
				if v = nil; ok {
					v = group.Get(ast.StringTerm(f.name))
				}
			}
			if f.name != "" && v == nil {
				v = o.Get(ast.StringTerm(f.name))
			}
			if v != nil {
				return v
			}
		}
	}
	switch f.group + "." + f.name {
	case "labels.", "principal.labels", "request.headers":
		return ast.MustParseTerm(one(dice, []string{"{}", `{"confidential": "true"}`, `{"confidential": "no", "x": "é"}`}))
	case "backends.":
		return ast.MustParseTerm(one(dice, []string{"{}", `{"a": {"pool": "small", "healthy": true, "inflight": 0, "kv_used": 0.25, "price": 2}}`}))
	case "request.tools", "principal.roles", "pii.kinds", "prompt.keywords":
		return ast.MustParseTerm(one(dice, []string{"[]", `["KR_RRN"]`, `["tester", "admin"]`, `["EMAIL", "KR_RRN", "EMAIL"]`}))
	case "budget.used_ratio":
		return ast.MustParseTerm(one(dice, []string{"0", "0.41", "0.9", "0.95", "1"}))
	}
	return ast.MustParseTerm(one(dice, slices.Concat(operands["string"], operands["number"], operands["bool"])))
}
