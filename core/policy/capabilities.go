package policy

import (
	"slices"
	"strings"
	_ "time/tzdata" // a policy that names a time zone comes to the same on a machine that has no table of them

	"github.com/open-policy-agent/opa/v1/ast"
)

// removed are the builtins that no policy may use; a name that ends in a dot or an underscore stands for
// all that begin so. Using one is a compile error, also through `with`: the compiler does not know it.
var removed = []string{
	// They reach outside, or tell what is outside.
	"http.send", "net.lookup_ip_addr", "opa.runtime", "providers.aws.",
	// They differ from call to call, so that a decision could not be replayed; time is input.time_ms.
	"rand.intn", "uuid.rfc4122", "time.now_ns",
	// They handle keys and certificates: work for auth, and slow enough to be an attack.
	"crypto.x509.", "crypto.parse_private_keys", "io.jwt.",
	// They run or read programs of their own, or write out values of any size.
	"rego.parse_module", "trace", "graphql.", "strings.render_template",
	"json.match_schema", "json.verify_schema", "json.marshal", "json.marshal_with_options", "yaml.",
	// Small arguments make them run long or fill memory, and nothing can interrupt them. bits.lsh(1, 1e8)
	// ran 67 s past a 20 ms deadline.
	"bits.lsh", "net.cidr_expand", "regex.globs_match", "regex.template_match", "graph.reachable_paths",
}

// capabilities lists what a policy may use.
func capabilities() *ast.Capabilities {
	caps := ast.CapabilitiesForThisVersion(ast.CapabilitiesRegoVersion(ast.RegoV1))
	caps.Builtins = slices.DeleteFunc(caps.Builtins, func(b *ast.Builtin) bool { return isRemoved(b.Name) })
	caps.AllowNet = []string{} // not nil: nil would allow all hosts
	return caps
}

func isRemoved(name string) bool {
	return slices.ContainsFunc(removed, func(r string) bool {
		family := strings.HasSuffix(r, ".") || strings.HasSuffix(r, "_")
		return name == r || family && strings.HasPrefix(name, r)
	})
}
