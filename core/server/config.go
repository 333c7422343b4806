package server

import (
	"net"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
)

// Config is the section `server` of the file. Listen, TLS and the connection's own timeouts are read at
// start alone; the rest follows a reload.
type Config struct {
	Listen    string         `yaml:"listen" default:"127.0.0.1:8080" doc:"Address to take calls on; NEXUS_LISTEN overrides it."`
	TLS       TLSConfig      `yaml:"tls" doc:"Certificate for HTTPS and HTTP/2; without one the listener speaks HTTP/1.1 and h2c."`
	MaxBody   setting.Size   `yaml:"max_body" default:"32MiB" doc:"Largest request body; a larger one gets 413."`
	MaxHeader setting.Size   `yaml:"max_header" default:"32KiB" doc:"Largest request header; a larger one gets 431."`
	KeepAlive time.Duration  `yaml:"keep_alive" default:"15s" doc:"Silence after which who waits for a stream is sent a comment, and again each time it lasts as long, so that no proxy in between takes it for dead; nginx and AWS give up after 60 s. The first comment commits the status to 200: an error after it comes as an event, which SDKs raise but do not retry. 0: none is sent, and the status is held until the first event."`
	Timeouts  TimeoutsConfig `yaml:"timeouts" doc:"What a slow caller is allowed."`
	Drain     DrainConfig    `yaml:"drain" doc:"How the gateway stops."`
}

// TLSConfig names PEM files.
type TLSConfig struct {
	Cert string `yaml:"cert" doc:"PEM file with the certificate chain."`
	Key  string `yaml:"key" doc:"PEM file with the private key."`
}

// TimeoutsConfig bounds what a caller may take its time with; a stream as such has no bound here.
type TimeoutsConfig struct {
	ReadHeader time.Duration `yaml:"read_header" default:"5s" doc:"For the whole request header."`
	BodyGap    time.Duration `yaml:"body_gap" default:"10s" doc:"Between two reads of the request body."`
	Body       time.Duration `yaml:"body" default:"30s" doc:"For the whole request body."`
	Idle       time.Duration `yaml:"idle" default:"120s" doc:"A connection kept open without a request."`
	Write      time.Duration `yaml:"write" default:"30s" doc:"For the caller to take one flush of the reply."`
}

// DrainConfig is how the gateway stops on SIGTERM.
type DrainConfig struct {
	Delay time.Duration `yaml:"delay" default:"5s" doc:"Between readiness off and no new connections, for load balancers to notice."`
	Limit time.Duration `yaml:"limit" default:"300s" doc:"For running streams to end; then they get an error event."`
}

// Validate checks what the tags cannot say.
func (c *Config) Validate(p setting.Problems) {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		p.Addf("listen", "%q is not HOST:PORT", c.Listen)
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		p.Addf("tls", "needs both cert and key")
	}
	if c.MaxBody < 1<<10 {
		p.Addf("max_body", "%v is less than 1KiB: no call would fit", c.MaxBody)
	}
	if c.MaxHeader < 4<<10 {
		p.Addf("max_header", "%v is less than 4KiB: ordinary clients would not fit", c.MaxHeader)
	}
	t := c.Timeouts
	for name, d := range map[string]time.Duration{"read_header": t.ReadHeader, "body_gap": t.BodyGap, "body": t.Body, "idle": t.Idle, "write": t.Write} {
		if d <= 0 {
			p.Addf("timeouts."+name, "%v: a slow caller must not be able to hold a slot for ever", d)
		}
	}
	if c.KeepAlive < 0 {
		p.Addf("keep_alive", "%v is negative; 0 sends no comments", c.KeepAlive)
	}
	if c.Drain.Delay < 0 || c.Drain.Limit < 0 {
		p.Addf("drain", "has a negative duration")
	}
}
