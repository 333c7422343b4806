package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/nexus-gateway/nexus/core/config"
	"github.com/nexus-gateway/nexus/core/plugin"
	"github.com/nexus-gateway/nexus/core/policy"
	"github.com/nexus-gateway/nexus/core/server"
	"github.com/nexus-gateway/nexus/core/setting"
)

// faults gathers what is wrong with a configuration beyond what its text shows, so that one look tells all
// of it: each fault at the line of its setting, unless it names a file and line of its own.
type faults struct {
	at  setting.Problems
	own []error
}

func newFaults() *faults { return &faults{at: setting.NewProblems()} }

// add notes that the setting at path led to err; nil is no fault.
func (f *faults) add(path string, err error) {
	var text *config.Error
	var rules policy.Errors
	switch e := err.(type) {
	case nil:
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			f.add(path, one)
		}
	case *plugin.EntryError:
		at := fmt.Sprintf("%s[%d]", path, e.Index)
		if e.Path != "" {
			at += "." + e.Path
		}
		f.at.Addf(at, "%v", e)
	default:
		if errors.As(err, &text) || errors.As(err, &rules) {
			f.own = append(f.own, err)
			return
		}
		section, _, _ := strings.Cut(path, ".")
		f.at.Addf(path, "%s", strings.TrimPrefix(err.Error(), section+": "))
	}
}

// err is all that was noted, nil if nothing was.
func (f *faults) err(source *config.Source) error {
	return errors.Join(append([]error{source.Locate(f.at)}, f.own...)...)
}

// readable reports whether the certificate can be served: a listener would find out only when it starts.
func readable(c server.TLSConfig) error {
	if c.Cert == "" {
		return nil
	}
	_, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	return err
}
