package plugin

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
	"github.com/nexus-gateway/nexus/sdk/abi"
)

// HTTP says where and how http_call may ask. A plugin that waits keeps its instance: raise instances for one that asks.
type HTTP struct {
	Hosts       []string      `yaml:"hosts" doc:"The servers it may ask, each as name:port. Nothing else is reached: redirects are not followed, proxies not used."`
	Timeout     time.Duration `yaml:"timeout" default:"1s" doc:"Longest time of one request; never longer than what is left of the plugin's deadline, so raise that too."`
	MaxRequest  setting.Size  `yaml:"max_request" default:"32KiB" doc:"Most that it may send at a time."`
	MaxResponse setting.Size  `yaml:"max_response" default:"32KiB" doc:"Longest body of an answer; a longer one is no answer."`
}

const (
	maxHosts   = 64
	maxTimeout = 10 * time.Second
	maxHTTP    = 1 << 20 // bytes
)

// Validate notes what is wrong.
func (c *HTTP) Validate(p setting.Problems) {
	for i, h := range c.Hosts {
		if err := checkHost(h); err != nil {
			p.Addf("hosts["+strconv.Itoa(i)+"]", "%v", err)
		}
	}
	if len(c.Hosts) > maxHosts {
		p.Addf("hosts", "has %d servers; the most is %d", len(c.Hosts), maxHosts)
	}
	bound(p, "timeout", int64(c.Timeout), int64(maxTimeout), maxTimeout.String())
	bound(p, "max_request", int64(c.MaxRequest), maxHTTP, setting.Size(maxHTTP).String())
	bound(p, "max_response", int64(c.MaxResponse), maxHTTP, setting.Size(maxHTTP).String())
}

func checkHost(s string) error {
	name, port, err := net.SplitHostPort(s)
	n, bad := strconv.ParseUint(port, 10, 16)
	if err != nil || bad != nil || n == 0 || name == "" || strings.ContainsAny(name, "/@ *?#") {
		return fmt.Errorf("%q is not a server: write name:port, as in ratings.internal:8080", s)
	}
	return nil
}

// A caller asks other servers for a plugin.
type caller struct {
	rule   HTTP
	hosts  map[string]bool
	client *http.Client
}

func newCaller(rule HTTP, instances int) *caller {
	if rule.Timeout == 0 {
		rule.Timeout = time.Second
	}
	for _, size := range []*setting.Size{&rule.MaxRequest, &rule.MaxResponse} {
		if *size == 0 {
			*size = 32 << 10
		}
	}
	c := &caller{rule: rule, hosts: map[string]bool{}}
	for _, h := range rule.Hosts {
		c.hosts[strings.ToLower(h)] = true
	}
	c.client = &http.Client{
		Transport: &http.Transport{ // Proxy is nil: the environment has no say
			MaxIdleConnsPerHost: max(instances, 4), MaxConnsPerHost: maxInstances, IdleConnTimeout: 30 * time.Second,
			DisableCompression: true, MaxResponseHeaderBytes: 16 << 10, TLSHandshakeTimeout: maxTimeout,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

func (c *caller) close() {
	if c != nil {
		c.client.CloseIdleConnections()
	}
}

// What http_call answers without an answer, as i32.
const (
	notAnswered = none
	notAllowed  = none - 1
)

func (p *plugin) httpCall(h host) (uint64, error) {
	if _, err := h.turn(); err != nil {
		return 0, err
	}
	h.g.Charge(netCost)
	b, err := h.bytes("request", 0, maxHTTP+maxHTTP/4)
	if err != nil {
		return 0, err
	}
	if len(b) > int(p.http.rule.MaxRequest) {
		return notAllowed, nil
	}
	asked, err := readAsk(b)
	if err != nil {
		return 0, err
	}
	if !p.http.allows(asked.URL) {
		return notAllowed, nil
	}
	ctx, cancel := context.WithTimeout(h.g.Context(), min(p.http.rule.Timeout, h.g.Remaining()))
	defer cancel()
	records, ok := p.http.ask(ctx, asked)
	if !ok {
		return notAnswered, nil
	}
	return h.answer(string(records), 2)
}

// readAsk reads what a guest wants to ask. It must be what HTTP knows, and frame nothing itself.
func readAsk(b []byte) (*http.Request, error) {
	r := &http.Request{Method: http.MethodGet, Header: http.Header{"User-Agent": {"nexus"}}}
	for n := 0; len(b) > 0; n++ {
		id, name, value, rest, err := cutRecord(b)
		if err == nil && n >= maxRecords {
			err = fmt.Errorf("more than %d records", maxRecords)
		}
		if err == nil {
			err = askRecord(r, id, name, value)
		}
		if err != nil {
			return nil, err
		}
		b = rest
	}
	if r.URL == nil {
		return nil, errors.New("the request names no URL")
	}
	return r, nil
}

func cutRecord(b []byte) (id uint16, name, value string, rest []byte, err error) {
	if len(b) < abi.RecordHeader {
		return 0, "", "", nil, fmt.Errorf("a record of %d bytes", len(b))
	}
	at := abi.RecordHeader + uint64(binary.LittleEndian.Uint16(b[abi.RecordName:]))
	end := at + uint64(binary.LittleEndian.Uint32(b[abi.RecordValue:]))
	if end > uint64(len(b)) {
		return 0, "", "", nil, fmt.Errorf("a record of %d bytes where %d are left", end, len(b))
	}
	return binary.LittleEndian.Uint16(b[abi.RecordID:]), string(b[abi.RecordHeader:at]), string(b[at:end]), b[end:], nil
}

// methods are what may be asked: those that end with one answer.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

func askRecord(r *http.Request, id uint16, name, value string) error {
	switch id {
	case abi.HTTPMethod:
		if !slices.Contains(methods, value) {
			return fmt.Errorf("method %q is none of %v", value, methods)
		}
		r.Method = value
	case abi.HTTPURL:
		return askURL(r, value)
	case abi.HTTPHeader:
		if len(name)+len(value) > maxHeader || !token(name) || !plainText(value) {
			return fmt.Errorf("header %q is not one that HTTP knows", printable([]byte(name)))
		}
		if framing(name) {
			return fmt.Errorf("header %q is the gateway's own", name)
		}
		r.Header.Set(name, value)
	case abi.HTTPBody:
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(value)), int64(len(value))
	}
	return nil
}

func askURL(r *http.Request, text string) error {
	const longest = 4096 // bytes
	u, err := url.Parse(text)
	if err != nil || len(text) > longest || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || !plainText(text) {
		return fmt.Errorf("%q is not the address of something to ask: write http or https, a host and a path", printable([]byte(text[:min(len(text), 200)])))
	}
	r.URL, r.Host = u, u.Host
	return nil
}

// framing are headers that say where a request goes, where it ends, or for whom it is.
func framing(name string) bool {
	switch strings.ToLower(name) {
	case "connection", "content-length", "cookie", "expect", "host", "http2-settings", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade":
		return true
	}
	return strings.HasPrefix(strings.ToLower(name), "proxy-")
}

// allows reports whether the server is one of those listed, by the very name that stands in the list.
func (c *caller) allows(u *url.URL) bool {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return c.hosts[strings.ToLower(net.JoinHostPort(u.Hostname(), port))]
}

// told are the headers of an answer that a plugin is told.
var told = []string{"Cache-Control", "Content-Type", "Etag", "Expires", "Last-Modified", "Location", "Retry-After"}

// ask sends the request and returns the answer as records; false when there is none in time or it is too long.
func (c *caller) ask(ctx context.Context, r *http.Request) ([]byte, bool) {
	response, err := c.client.Do(r.WithContext(ctx))
	if err != nil {
		return nil, false
	}
	defer response.Body.Close()
	var body bytes.Buffer
	n, err := body.ReadFrom(io.LimitReader(response.Body, int64(c.rule.MaxResponse)+1))
	if err != nil || n > int64(c.rule.MaxResponse) {
		return nil, false
	}
	out := appendRecord(nil, abi.HTTPStatus, "", fmt.Sprintf("%03d", response.StatusCode))
	for _, name := range told {
		if value := response.Header.Get(name); value != "" && len(value) <= maxHeader {
			out = appendRecord(out, abi.HTTPHeader, strings.ToLower(name), value)
		}
	}
	return appendRecord(out, abi.HTTPBody, "", body.String()), true
}
