package policy

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// Bounds on a decision, as in decision.schema.json.
const (
	maxName    = 256      // bytes: rules, codes, keys
	maxLine    = 1 << 10  // bytes: reasons, messages, header values, tags
	maxAnswer  = 64 << 10 // bytes
	maxTargets = 32
	maxMatched = 256
	maxLimits  = 64
	maxWeight  = 1_000_000
	maxRetry   = 24 * 60 * 60 // seconds
)

// check reads a decision. Whatever the schema does not know, a wrong type or a bound that is passed is
// an error: a member that is misspelt must not be a member that is ignored.
func check(value ast.Value, pools map[string]bool) (*verdict, error) {
	r := reader{pools: pools}
	root, ok := value.(ast.Object)
	if !ok {
		return nil, fmt.Errorf("the decision is %s, not an object", kindOf(value))
	}
	v := &verdict{}
	weights := map[string]int{}
	seen := map[string]bool{}
	r.members(root, "", func(name string, value ast.Value) {
		seen[name] = true
		switch name {
		case "action":
			v.Action = pipeline.Action(r.text(name, value, maxName))
		case "rule":
			v.Rule = r.text(name, value, maxName)
		case "reason":
			v.Reason = r.text(name, value, maxLine)
		case "matched":
			v.matched = r.texts(name, value, maxMatched)
		case "conflict":
			v.conflict = r.texts(name, value, maxMatched)
		case "targets":
			v.Targets = r.targets(name, value)
		case "weights":
			r.members(value, name, func(pool string, w ast.Value) {
				weights[pool] = int(r.integer(name+"."+pool, w, 0, maxWeight))
			})
		case "set":
			v.Set = r.set(name, value)
		case "headers":
			v.Headers = r.headers(name, value)
		case "mask":
			v.Mask = r.mask(name, value)
		case "limits":
			v.Limits = r.limits(name, value)
		case "deny":
			v.Deny = r.deny(name, value, v)
		case "respond":
			r.members(value, name, func(m string, value ast.Value) {
				r.only(m == "text", name, m)
				v.text = r.text("respond.text", value, maxAnswer)
				seen["respond.text"] = true
			})
		case "tags":
			v.Tags = r.strings(name, value)
		default:
			r.only(false, "", name)
		}
	})
	r.whole(v, seen, weights)
	if r.err != nil && v.Rule != "" {
		return nil, fmt.Errorf("rule %s: %w", cut(v.Rule, maxName), r.err)
	}
	return v, r.err
}

// whole checks what concerns several members.
func (r *reader) whole(v *verdict, seen map[string]bool, weights map[string]int) {
	if seen["conflict"] {
		if len(seen) > 1 || len(v.conflict) < 2 {
			r.errorf("conflict stands beside other members, or names fewer than two rules")
		}
		return
	}
	switch v.Action {
	case pipeline.Allow, pipeline.DenyIt, pipeline.Respond:
	case "":
		r.errorf("action is missing")
	default:
		r.errorf("action is %s: must be allow, deny or respond", quote(string(v.Action)))
	}
	if seen["deny"] && v.Action != pipeline.DenyIt {
		r.errorf("deny is given, but action is %s", quote(string(v.Action)))
	}
	if seen["respond"] != (v.Action == pipeline.Respond) || seen["respond"] && !seen["respond.text"] {
		r.errorf("action respond and respond.text go together")
	}
	for i := range v.Targets {
		if w, ok := weights[v.Targets[i].Pool]; ok {
			v.Targets[i].Weight = w
			delete(weights, v.Targets[i].Pool)
		}
	}
	for pool := range weights {
		r.errorf("weights.%s is not one of the targets", pool)
	}
}

// A reader keeps the first thing that is wrong with a decision, and reads on.
type reader struct {
	pools map[string]bool // nil: any
	err   error
}

func (r *reader) errorf(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// only notes an unknown member unless known.
func (r *reader) only(known bool, path, member string) {
	if known {
		return
	}
	text := "unknown member " + quote(strings.TrimPrefix(path+"."+member, "."))
	if near := membersOf(path).nearest(member); near != "" {
		text += ": did you mean " + quote(near) + "?"
	}
	r.errorf("%s", text)
}

func (r *reader) members(value ast.Value, path string, f func(name string, value ast.Value)) {
	object, ok := value.(ast.Object)
	if !ok {
		r.errorf("%s is %s, not an object", path, kindOf(value))
		return
	}
	object.Foreach(func(k, v *ast.Term) {
		name, ok := k.Value.(ast.String)
		if !ok {
			r.errorf("%s has a key that is %s, not a string", path, kindOf(k.Value))
			return
		}
		f(string(name), v.Value)
	})
}

func (r *reader) text(path string, value ast.Value, limit int) string {
	s, ok := value.(ast.String)
	switch {
	case !ok:
		r.errorf("%s is %s, not a string", path, kindOf(value))
	case len(s) > limit:
		r.errorf("%s is longer than %d bytes", path, limit)
	}
	return string(s)
}

func (r *reader) name(path string, value ast.Value) string {
	s := r.text(path, value, maxName)
	if s == "" {
		r.errorf("%s is empty", path)
	}
	return s
}

func (r *reader) number(path string, value ast.Value, least, most float64) float64 {
	n, ok := value.(ast.Number)
	if !ok {
		r.errorf("%s is %s, not a number", path, kindOf(value))
		return 0
	}
	x, err := strconv.ParseFloat(string(n), 64)
	if err != nil || !(x >= least && x <= most) {
		r.errorf("%s is %s: must be %g to %g", path, cut(string(n), 40), least, most)
		return 0
	}
	return x
}

func (r *reader) integer(path string, value ast.Value, least, most int64) int64 {
	x := r.number(path, value, float64(least), float64(most))
	if x != math.Trunc(x) {
		r.errorf("%s is %g, not an integer", path, x)
	}
	return int64(x)
}

// each calls f for every element of an array, or of a set in its order.
func (r *reader) each(path string, value ast.Value, limit int, f func(path string, value ast.Value)) {
	var elements []*ast.Term
	switch v := value.(type) {
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { elements = append(elements, t) })
	case ast.Set:
		elements = v.Slice()
	default:
		r.errorf("%s is %s, not an array", path, kindOf(value))
	}
	if len(elements) > limit {
		r.errorf("%s has more than %d elements", path, limit)
		return
	}
	for i, t := range elements {
		f(path+"["+strconv.Itoa(i)+"]", t.Value)
	}
}

func (r *reader) texts(path string, value ast.Value, limit int) (list []string) {
	r.each(path, value, limit, func(path string, value ast.Value) {
		list = append(list, r.text(path, value, maxName))
	})
	return list
}

func (r *reader) strings(path string, value ast.Value) map[string]string {
	m := map[string]string{}
	r.members(value, path, func(name string, value ast.Value) {
		m[name] = r.text(path+"."+name, value, maxLine)
	})
	return m
}

func (r *reader) targets(path string, value ast.Value) (list []pipeline.Target) {
	if _, ok := value.(*ast.Array); !ok {
		r.errorf("%s is %s, not an array: the order counts", path, kindOf(value))
		return nil
	}
	r.each(path, value, maxTargets, func(path string, value ast.Value) {
		var t pipeline.Target
		if _, ok := value.(ast.Object); ok {
			r.members(value, path, func(m string, value ast.Value) {
				switch m {
				case "pool":
					t.Pool = r.name(path+".pool", value)
				case "weight":
					t.Weight = int(r.integer(path+".weight", value, 0, maxWeight))
				case "mask":
					t.Mask = r.profile(path+".mask", value)
				default:
					r.only(false, path, m)
				}
			})
		} else {
			t.Pool = r.name(path, value)
		}
		if t.Pool == "" {
			r.errorf("%s.pool is missing", path)
		}
		if r.pools != nil && !r.pools[t.Pool] {
			r.errorf("%s: %s", path, unknownPool(t.Pool, r.pools))
		}
		list = append(list, t)
	})
	return list
}

func (r *reader) set(path string, value ast.Value) (s pipeline.Set) {
	r.members(value, path, func(m string, value ast.Value) {
		switch m {
		case "model":
			s.Model = r.name("set.model", value)
		case "max_tokens":
			s.MaxTokens = r.integer("set.max_tokens", value, 1, 1<<40)
		default:
			r.only(false, path, m)
		}
	})
	return s
}

func (r *reader) mask(path string, value ast.Value) (k pipeline.Mask) {
	r.members(value, path, func(m string, value ast.Value) {
		switch m {
		case "profile":
			if k.Profile = r.profile("mask.profile", value); k.Profile == "all" {
				k.Profile = "" // pipeline.Mask says all by saying nothing
			}
		case "restore":
			b, ok := value.(ast.Boolean)
			if !ok {
				r.errorf("mask.restore is %s, not a boolean", kindOf(value))
			}
			k.Restore = bool(b)
		default:
			r.only(false, path, m)
		}
	})
	return k
}

// profile reads which of the plugins' edits are made: all or none.
func (r *reader) profile(path string, value ast.Value) string {
	s := r.text(path, value, maxName)
	if s != "all" && s != "none" {
		r.errorf("%s is %s: must be all or none", path, quote(s))
	}
	return s
}

func (r *reader) limits(path string, value ast.Value) (list []pipeline.Limit) {
	r.each(path, value, maxLimits, func(path string, value ast.Value) {
		var l pipeline.Limit
		r.members(value, path, func(m string, value ast.Value) {
			switch m {
			case "key":
				l.Key = r.name(path+".key", value)
			case "requests":
				l.Requests = r.integer(path+".requests", value, 0, 1<<40)
			case "tokens":
				l.Tokens = r.integer(path+".tokens", value, 0, 1<<40)
			default:
				r.only(false, path, m)
			}
		})
		if l.Key == "" {
			r.errorf("%s.key is missing", path)
		}
		list = append(list, l)
	})
	return list
}

func (r *reader) deny(path string, value ast.Value, v *verdict) (d pipeline.Deny) {
	r.members(value, path, func(m string, value ast.Value) {
		switch m {
		case "status":
			d.Status = int(r.integer("deny.status", value, 400, 599))
		case "code":
			d.Code = r.text("deny.code", value, maxName)
		case "message":
			d.Message = r.text("deny.message", value, maxLine)
		case "retry_after":
			v.retry = time.Duration(r.number("deny.retry_after", value, 0, maxRetry) * float64(time.Second))
		default:
			r.only(false, path, m)
		}
	})
	return d
}

// framing are the headers that say what a reply's bytes are, which no decision may change.
var framing = []string{"Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection", "Upgrade", "Trailer", "Te", "Keep-Alive"}

func (r *reader) headers(path string, value ast.Value) map[string]string {
	m := r.strings(path, value)
	for name, text := range m {
		if !isToken(name) || slices.Contains(framing, http.CanonicalHeaderKey(name)) {
			r.errorf("headers: %s may not be set", quote(name))
		}
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			r.errorf("headers: the value of %s has a control character", quote(name))
		}
	}
	return m
}

func kindOf(v ast.Value) string {
	switch v.(type) {
	case ast.Null:
		return "null"
	case ast.Boolean:
		return "a boolean"
	case ast.Number:
		return "a number"
	case ast.String:
		return "a string"
	case *ast.Array:
		return "an array"
	case ast.Object:
		return "an object"
	case ast.Set:
		return "a set"
	}
	return "no JSON value"
}
