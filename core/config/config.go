// Package config reads the gateway's one YAML file: strictly, with defaults, with every mistake at its
// line; and watches it for changes.
//
// Each package declares its own Config struct with the tags yaml, default, doc and enum (see package
// setting). The kinds of setting are bool, integers, floats, strings, time.Duration, setting.Size,
// setting.Secret and whatever else reads itself from text, lists and tables of these, structs of these
// and pointers to them; and any, for what only a plugin understands.
//
// Any single value may hold ${NAME} or ${NAME:-default}, which the environment fills in; a
// setting.Secret may be file:/path.
package config
