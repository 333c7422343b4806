package telemetry

import (
	"net/url"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
)

// Config is the section `telemetry` of the file.
type Config struct {
	ServiceName string       `yaml:"service_name" default:"nexus" doc:"Name this gateway goes by in traces (service.name)."`
	AccessLog   string       `yaml:"access_log" default:"stdout" doc:"Where the access log goes, one JSON line a call: stdout, off, or the path of a file to append to."`
	LogBuffer   setting.Size `yaml:"access_log_buffer" default:"1MiB" doc:"Access-log lines held while the log cannot be written; lines beyond it are dropped and counted, so that a stuck log never holds a call."`
	Traces      Traces       `yaml:"traces" doc:"Export of OpenTelemetry spans. A caller's trace context is passed on to backends in any case."`
}

// Traces says where spans go.
type Traces struct {
	Endpoint string                    `yaml:"endpoint" doc:"OTLP/HTTP address, such as http://collector:4318; empty: no spans are made. Without a path, /v1/traces is taken."`
	Headers  map[string]setting.Secret `yaml:"headers" doc:"Headers sent with every export, such as an Authorization."`
	Sample   float64                   `yaml:"sample" default:"1" doc:"Share of calls traced, from 0 to 1."`
	Follow   bool                      `yaml:"follow_caller" default:"true" doc:"Let the sampled flag of a caller's traceparent decide in place of the share."`
	Timeout  time.Duration             `yaml:"timeout" default:"10s" doc:"How long one export may take."`
}

// minLogBuffer has room for the longest line a call can make.
const minLogBuffer = 128 << 10 // bytes

// Validate notes what the tags cannot say.
func (c *Config) Validate(p setting.Problems) {
	if c.ServiceName == "" {
		p.Addf("service_name", "is empty")
	}
	if c.AccessLog == "" {
		p.Addf("access_log", "is empty: write stdout, off or the path of a file")
	}
	if c.LogBuffer < minLogBuffer {
		p.Addf("access_log_buffer", "%s is too small: at least %s", c.LogBuffer, setting.Size(minLogBuffer))
	}
	c.Traces.validate(p.In("traces"))
}

func (c *Traces) validate(p setting.Problems) {
	if !(c.Sample >= 0 && c.Sample <= 1) { // NaN too
		p.Addf("sample", "%v is not a share: write a number from 0 to 1", c.Sample)
	}
	if c.Endpoint == "" {
		return
	}
	if c.Timeout <= 0 {
		p.Addf("timeout", "%s must be above 0", c.Timeout)
	}
	for name := range c.Headers {
		if name == "" || strings.ContainsAny(name, " \t\r\n:") {
			p.Addf("headers", "%q is not a header's name", name)
		}
	}
	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		p.Addf("endpoint", "is not an address: write http://HOST:PORT or https://HOST")
	case u.User != nil:
		p.Addf("endpoint", "carries a password: put the credential in headers")
	case u.RawQuery != "" || u.Fragment != "":
		p.Addf("endpoint", "has a query or a fragment; neither is sent")
	}
}
