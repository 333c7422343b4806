package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/plugin"
)

// loads: the module is what its manifest says; open has loaded it.
func loads(_ context.Context, s *subject) (string, error) {
	is, err := plugin.Inspect(s.wasm)
	if err != nil {
		return "", err
	}
	if is.Fault != "" {
		return "", fmt.Errorf("%s", is.Fault)
	}
	for _, c := range s.m.Capabilities {
		if !slices.Contains(is.Capabilities, c) && !ofRecords(c) {
			return "", fmt.Errorf("its manifest asks for the capability %q, but the module does not import what it grants", c)
		}
	}
	return fmt.Sprintf("%s, %d bytes, hooks %v", is.Kind, is.Size, is.Hooks), nil
}

// ofRecords reports whether a capability lets a plugin say something, and so shows in no import.
func ofRecords(c string) bool {
	return slices.Contains([]string{"answer", "headers", "model", "pool", "system"}, c)
}

// configured: what the schema's examples show is taken, and what no schema can know is not.
func configured(ctx context.Context, s *subject) (string, error) {
	is, err := plugin.Inspect(s.wasm)
	if err != nil {
		return "", err
	}
	if !is.Configures && s.m.Config == nil {
		return "it takes none", s.refuses(ctx, map[string]any{"no-such-setting": 1})
	}
	examples, _ := s.m.Config["examples"].([]any)
	for i, one := range examples {
		settings, ok := one.(map[string]any)
		if !ok {
			return "", fmt.Errorf("example %d of its schema is no object", i)
		}
		t, err := s.load(ctx, settings, nil)
		if err != nil {
			return "", fmt.Errorf("example %d of its schema is refused: %w", i, err)
		}
		if err := t.Close(); err != nil {
			return "", err
		}
	}
	if open(s.m.Config) {
		return fmt.Sprintf("%d examples; its schema takes any setting", len(examples)), nil
	}
	return fmt.Sprintf("%d examples", len(examples)), s.refuses(ctx, map[string]any{"no-such-setting": 1})
}

// open reports whether a schema asks for members of any name.
func open(schema map[string]any) bool {
	switch more := schema["additionalProperties"].(type) {
	case map[string]any:
		return true
	case bool:
		return more
	}
	return schema["patternProperties"] != nil
}

func (s *subject) refuses(ctx context.Context, settings map[string]any) error {
	t, err := s.load(ctx, settings, nil)
	if err != nil {
		return nil
	}
	_ = t.Close()
	return fmt.Errorf("the configuration %v is taken: refuse what is not known, so that a slip of the pen does not go unseen", settings)
}

// denied: with a capability withheld the plugin is refused at load, by its name.
func denied(ctx context.Context, s *subject) (string, error) {
	if len(s.m.Capabilities) == 0 {
		return "", skip("it asks for no capability")
	}
	for i, c := range s.m.Capabilities {
		granted := slices.Delete(slices.Clone(s.m.Capabilities), i, i+1)
		t, err := s.load(ctx, s.options.Config, granted)
		if err == nil {
			_ = t.Close()
			return "", fmt.Errorf("it loads without the capability %q", c)
		}
		if !strings.Contains(err.Error(), `"`+c+`"`) {
			return "", fmt.Errorf("without the capability %q it is refused by a sentence that does not name it: %w", c, err)
		}
	}
	return strings.Join(s.m.Capabilities, ", "), nil
}
