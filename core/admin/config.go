package admin

import (
	"net"
	"strings"

	"github.com/nexus-gateway/nexus/core/setting"
)

// Config is the section `admin` of the file.
type Config struct {
	Listen string         `yaml:"listen" default:"127.0.0.1:9090" doc:"Address of the second listener: probes, metrics, status and reload. Keep it off the network that callers are on."`
	Token  setting.Secret `yaml:"token" doc:"Bearer token asked for /status, /reload, /policy and /debug/pprof. Without one these are served on a loopback address only."`
	Hosts  []string       `yaml:"hosts" doc:"Host names this listener may be asked by, beside localhost and every IP address; others are refused, so that a web page cannot reach it through a name of its own."`
	Pprof  bool           `yaml:"pprof" default:"false" doc:"Serve Go's profiles under /debug/pprof/."`
}

const minToken = 16 // bytes

// Validate notes what the tags cannot say.
func (c *Config) Validate(p setting.Problems) {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		p.Addf("listen", "%q is not an address: write HOST:PORT", c.Listen)
	}
	if n := len(c.Token.Reveal()); n > 0 && n < minToken {
		p.Addf("token", "is too short: at least %d characters, such as `openssl rand -hex 16` prints", minToken)
	}
	if strings.TrimSpace(c.Token.Reveal()) != c.Token.Reveal() {
		p.Addf("token", "begins or ends with white space, which no client could send")
	}
	for _, name := range c.Hosts {
		if name == "" || strings.ContainsAny(name, ":/ *") {
			p.Addf("hosts", "%q is not a host name: leave out scheme, port and wildcards", name)
		}
	}
}

// isLocal reports whether only this machine can reach addr.
func isLocal(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}
