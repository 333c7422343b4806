// Package policies carries the policies that Nexus ships: the library that turns small named rules into
// one decision, a small routing policy with its data, and the JSON Schemas of what a policy reads and
// answers.
package policies

import (
	"embed"
	"io/fs"
)

//go:embed data.json routes.rego routes_test.rego nexus
var shipped embed.FS

//go:embed nexus/decision.rego nexus/lib.rego
var library embed.FS

// InputSchema is the JSON Schema of `input`, version 1.
//
//go:embed input.schema.json
var InputSchema []byte

// DecisionSchema is the JSON Schema of `data.nexus.decision`, version 1.
//
//go:embed decision.schema.json
var DecisionSchema []byte

// ClaimsSchema is the JSON Schema of what the rules of the library's four packages claim, version 1.
//
//go:embed claims.schema.json
var ClaimsSchema []byte

// Shipped returns the folder that is used when the configuration names none: the library, the routing
// policy, its data and its tests.
func Shipped() fs.FS { return shipped }

// Library returns the library alone; each of its packages is loaded beside every folder that does not bring it
// itself.
func Library() fs.FS { return library }
