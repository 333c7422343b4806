package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// A settingError says which of an entry's settings is wrong.
type settingError struct {
	path string // below the entry, as in "config.words[2]"
	text string
}

func (e *settingError) Error() string { return e.path + ": " + e.text }

// settingErrors are all that is wrong with one entry's settings.
type settingErrors []*settingError

func (e settingErrors) Error() string {
	texts := make([]string, len(e))
	for i, one := range e {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "; ")
}

// schemaAt is what a schema's own address is; nothing is there to be loaded.
const schemaAt = "nexus:config"

// nowhere keeps a schema from reaching for files and other servers.
type nowhere struct{}

func (nowhere) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s lies outside the manifest: what a schema refers to must stand in it", url)
}

// compileSchema reads a manifest's schema, JSON Schema of draft 2020-12.
func compileSchema(text map[string]any) (schema *jsonschema.Schema, doc any, err error) {
	doc, err = plainJSON(text)
	if err != nil {
		return nil, nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(nowhere{})
	if err := c.AddResource(schemaAt, doc); err != nil {
		return nil, nil, err
	}
	schema, err = c.Compile(schemaAt)
	var invalid *jsonschema.SchemaValidationError
	var detail *jsonschema.ValidationError
	if errors.As(err, &invalid) && errors.As(invalid.Err, &detail) {
		return nil, nil, (&schemaFaults{doc: doc}).list(detail, doc)
	}
	return schema, doc, err
}

// plainJSON turns what a configuration file gave into what encoding/json would give.
func plainJSON(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(b))
}

// checkConfig holds an entry's config against the manifest's schema. What it refuses comes as settingErrors.
func (m *Manifest) checkConfig(config map[string]any) error {
	if m.Config == nil {
		return nil
	}
	schema, doc, err := compileSchema(m.Config)
	if err != nil {
		return fmt.Errorf("its manifest's config is not a JSON Schema: %w", err)
	}
	if config == nil {
		config = map[string]any{}
	}
	instance, err := plainJSON(config)
	if err != nil {
		return err
	}
	var wrong *jsonschema.ValidationError
	err = schema.Validate(instance)
	if !errors.As(err, &wrong) {
		return err
	}
	return (&schemaFaults{doc: doc}).list(wrong, instance)
}

// schemaFaults turns what a schema refuses into sentences, each at its setting.
type schemaFaults struct {
	doc   any // the schema
	found settingErrors
}

// list returns what is wrong with the instance, in the order found.
func (s *schemaFaults) list(e *jsonschema.ValidationError, instance any) settingErrors {
	s.add(e, instance)
	slices.SortStableFunc(s.found, func(a, b *settingError) int { return strings.Compare(a.path, b.path) })
	return s.found
}

func (s *schemaFaults) add(e *jsonschema.ValidationError, instance any) {
	path := settingPath(e.InstanceLocation, instance)
	switch k := e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf:
		s.addf(path, "has none of the forms that its manifest allows, or more than one of them")
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			s.addf(path+"."+name, "unknown key%s", s.hint(e.SchemaURL, name))
		}
	case *kind.Required:
		for _, name := range k.Missing {
			s.addf(path, "lacks %q", name)
		}
	default:
		if len(e.Causes) == 0 {
			s.addf(path, "%s", e.BasicOutput().Error)
		}
		for _, cause := range e.Causes {
			s.add(cause, instance)
		}
	}
}

func (s *schemaFaults) addf(path, format string, args ...any) {
	const most = 20 // of one configuration
	if len(s.found) < most {
		s.found = append(s.found, &settingError{path, fmt.Sprintf(format, args...)})
	}
}

// settingPath writes a place in the instance as the configuration file does.
func settingPath(tokens []string, at any) string {
	path := "config"
	for _, token := range tokens {
		switch v := at.(type) {
		case []any:
			path += "[" + token + "]"
			if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(v) {
				at = v[i]
			}
		case map[string]any:
			path += "." + token
			at = v[token]
		}
	}
	return path
}

// hint names the known key that an unknown one was probably meant to be, or else those there are.
func (s *schemaFaults) hint(url, name string) string {
	at := s.doc
	_, fragment, _ := strings.Cut(url, "#")
	for _, token := range strings.Split(strings.Trim(fragment, "/"), "/") {
		if token == "" {
			continue
		}
		object, _ := at.(map[string]any)
		at = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(token)]
	}
	object, _ := at.(map[string]any)
	properties, _ := object["properties"].(map[string]any)
	var known []string
	for key := range properties {
		known = append(known, key)
	}
	slices.Sort(known)
	if near := meant(name, known); near != "" || len(known) == 0 {
		return near
	}
	return "; known here: " + strings.Join(known, ", ")
}
