package policy

import (
	"encoding/json"
	"slices"
	"sync"

	"github.com/nexus-gateway/nexus/policies"
)

// inputSchema is the schema as the compiler wants it. It panics when the file in the binary is not JSON,
// which a test excludes.
var inputSchema = sync.OnceValue(func() any {
	var schema any
	if err := json.Unmarshal(policies.InputSchema, &schema); err != nil {
		panic("policies/input.schema.json: " + err.Error())
	}
	return schema
})

// schemaPaths lists every path that the input schema names, as "input.request.model".
var schemaPaths = sync.OnceValue(func() []string {
	var paths []string
	var walk func(prefix string, node any)
	walk = func(prefix string, node any) {
		object, _ := node.(map[string]any)
		properties, _ := object["properties"].(map[string]any)
		for name, below := range properties {
			paths = append(paths, prefix+"."+name)
			walk(prefix+"."+name, below)
		}
	}
	walk("input", inputSchema())
	slices.Sort(paths)
	return paths
})
