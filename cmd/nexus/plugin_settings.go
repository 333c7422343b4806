package main

import (
	"os"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/plugin"
)

// settings are a plugin's own configuration, and the file they stand in.
type settings struct {
	values map[string]any
	source *config.Source
}

// readSettings reads them; no file is no settings.
func readSettings(path string) (s settings, err error) {
	if path == "" {
		return s, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	s.source, err = config.Decode(path, text, &s.values)
	return s, err
}

// locate says where in the file the settings stand that err is about; nil when it is about none.
func (s *settings) locate(err error) error {
	if s.source == nil {
		return nil
	}
	return s.source.Locate(plugin.RefusedSettings(err))
}
