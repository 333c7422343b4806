package config

import (
	"net"
	"path/filepath"

	"github.com/nexus-gateway/nexus/core/admin"
	"github.com/nexus-gateway/nexus/core/auth"
	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/core/policy"
	"github.com/nexus-gateway/nexus/core/quota"
	"github.com/nexus-gateway/nexus/core/server"
	"github.com/nexus-gateway/nexus/core/setting"
	"github.com/nexus-gateway/nexus/core/telemetry"
	"github.com/nexus-gateway/nexus/core/upstream"
)

// A File is the whole configuration; each package declares its own section.
type File struct {
	Server    server.Config    `yaml:"server" doc:"The listener that callers use."`
	Admin     admin.Config     `yaml:"admin" doc:"The second listener: probes, metrics, status, reload."`
	Auth      auth.Config      `yaml:"auth" doc:"Who may call."`
	Plugins   plugin.Config    `yaml:"plugins" doc:"What reads and edits the texts of a call."`
	Policy    policy.Config    `yaml:"policy" doc:"What is allowed, and where it goes."`
	Quota     quota.Config     `yaml:"quota" doc:"How much a caller may use."`
	Upstream  upstream.Config  `yaml:",inline"`
	Telemetry telemetry.Config `yaml:"telemetry" doc:"Access log and traces."`
}

// Load decodes the text of a configuration file. Relative paths of what is read start where the
// file lies, so that a configuration and what it names can be moved together.
func Load(name string, text []byte) (*File, *Source, error) {
	f := new(File)
	source, err := Decode(name, text, f)
	if err != nil {
		return nil, source, err
	}
	f.rebase(filepath.Dir(name))
	return f, source, nil
}

// Validate checks what lies between sections.
func (f *File) Validate(p setting.Problems) {
	_, port, err := net.SplitHostPort(f.Server.Listen)
	if err == nil && port != "0" && f.Server.Listen == f.Admin.Listen {
		p.Addf("admin.listen", "is the address of server.listen; callers must not reach this listener")
	}
}

// rebase puts dir before every relative path.
func (f *File) rebase(dir string) {
	paths := []*string{
		&f.Server.TLS.Cert, &f.Server.TLS.Key,
		&f.Auth.KeysFile,
		&f.Plugins.Dir,
		&f.Policy.Dir, &f.Policy.Data,
		&f.Policy.Shadow.Dir, &f.Policy.Shadow.Data, &f.Policy.Shadow.Bundle.Keep,
		&f.Policy.Shadow.Bundle.TLS.CA, &f.Policy.Shadow.Bundle.TLS.Cert, &f.Policy.Shadow.Bundle.TLS.Key,
		&f.Policy.Bundle.Keep, &f.Policy.Bundle.TLS.CA, &f.Policy.Bundle.TLS.Cert, &f.Policy.Bundle.TLS.Key,
	}
	for i := range f.Plugins.Chain {
		paths = append(paths, &f.Plugins.Chain[i].Path)
	}
	for _, path := range paths {
		*path = under(dir, *path)
	}
	f.Upstream.Files(func(path string) string { return under(dir, path) })
}

func under(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
