package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A subject is one way for a call to reach the backend.
type subject struct {
	name   string
	note   string // what it is, for the report
	target target
	child  *process // nil: no process between
	idle   int64    // bytes of VmRSS before any load
}

// A plant is the backend and all subjects, running.
type plant struct {
	dir      string
	backend  *process
	subjects []*subject
	skipped  []string // subjects that are not there, and why
}

// key is what the keyed subjects are called with. It opens nothing but the bench's own children.
const key = "bench-key-0123456789abcdef0123456789abcdef"

// build starts everything. The caller closes the plant, also after an error.
func (o *options) build(ctx context.Context) (*plant, error) {
	dir, err := os.MkdirTemp("", "nexus-bench-")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	p := &plant{dir: dir}
	self, err := os.Executable()
	if err != nil {
		return p, fmt.Errorf("bench: %w", err)
	}
	addr := freeAddr()
	direct := &subject{name: "direct", note: "no proxy", target: target{addr: addr, path: "/v1/chat/completions"}}
	if p.backend, err = p.start("backend", self, "backend", "--listen", addr); err != nil {
		return p, err
	}
	if err := p.backend.ready(ctx, direct.ask); err != nil {
		return p, err
	}
	p.subjects = append(p.subjects, direct)
	if err := p.addNginx(ctx, o.nginx, addr); err != nil {
		return p, err
	}
	listen := freeAddr()
	bare := &subject{name: "reverseproxy", note: "bare httputil.ReverseProxy on one http.Transport"}
	if err := p.add(ctx, bare, listen, self, "reverseproxy", "--to", "http://"+addr, "--listen", listen); err != nil {
		return p, err
	}
	return p, p.addNexus(ctx, o.nexus, addr)
}

func (p *plant) start(name, program string, args ...string) (*process, error) {
	dir := filepath.Join(p.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return launch(dir, nil, program, args...)
}

// add starts a subject and waits until it answers.
func (p *plant) add(ctx context.Context, s *subject, listen, program string, args ...string) error {
	child, err := p.start(s.name, program, args...)
	if err != nil {
		return err
	}
	s.child, s.target.addr, s.target.path = child, listen, "/v1/chat/completions"
	p.subjects = append(p.subjects, s)
	if err := child.ready(ctx, s.ask); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.idle = child.memory("VmRSS")
	return nil
}

// ask makes one call through the subject.
func (s *subject) ask() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c := client{addr: s.target.addr, request: request(s.target.path, s.target.key, prompt("", ""))}
	defer c.close()
	return c.do(ctx, false)
}

// close stops every child, the last first, and removes what was written.
func (p *plant) close() {
	for i := len(p.subjects) - 1; i >= 0; i-- {
		if c := p.subjects[i].child; c != nil {
			c.stop()
		}
	}
	if p.backend != nil {
		p.backend.stop()
	}
	_ = os.RemoveAll(p.dir) // left behind at worst
}

// freeAddr is a loopback address that nobody listens on at the moment.
func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0" // the child will say what is wrong
	}
	defer l.Close()
	return l.Addr().String()
}

const nginxConf = `daemon off;
worker_processes auto;
worker_rlimit_nofile 16384;
pid %[1]s/nginx.pid;
error_log stderr error;
events { worker_connections 8192; }
http {
  access_log off;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  keepalive_requests 1000000000;
  upstream backend { server %[2]s; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 4s; }
  server {
    listen %[3]s backlog=4096;
    location / {
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 300s;
    }
  }
}
`

func (p *plant) addNginx(ctx context.Context, program, backend string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath(filepath.Join("/usr/sbin", program)) // which Debian leaves out of users' PATH
	}
	if err != nil {
		p.skipped = append(p.skipped, "nginx: not installed")
		return nil
	}
	listen := freeAddr()
	dir := filepath.Join(p.dir, "nginx")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, backend, listen), 0o600); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	s := &subject{name: "nginx", note: "proxy_buffering off, keepalive upstream, no access log"}
	return p.add(ctx, s, listen, path, "-e", "stderr", "-p", dir, "-c", conf)
}

// A setup is one configuration of Nexus under test.
type setup struct{ name, note, yaml string }

func setups(backend string) []setup {
	const common = `server: {listen: %s}
admin: {listen: "127.0.0.1:0"}
backends: {mock: {kind: vllm, url: "http://` + "%s" + `"}}
pools: {default: {models: ["mock*"], backends: [mock]}}
`
	sum := sha256.Sum256([]byte(key))
	head := func() string { return fmt.Sprintf(common, "%s", backend) }
	keyed := head() + `auth: {keys: [{id: bench, sha256: ` + hex.EncodeToString(sum[:]) + `, tenant: bench}]}
quota: {limits: {default: {requests_per_minute: 1000000000, tokens_per_minute: 1000000000000}}}
`
	return []setup{
		{"nexus-a", "nothing: anonymous callers, no policy, no plugin, no access log", head() + "auth: {anonymous: true}\npolicy: {enabled: false}\ntelemetry: {access_log: off}\n"},
		{"nexus-b", "key, quota (memory), access log", keyed + "policy: {enabled: false}\n"},
		{"nexus-c", "key, quota (memory), policy, pii-mask on request and reply, access log", keyed + "plugins: {chain: [{name: pii-mask}]}\n"},
	}
}

func (p *plant) addNexus(ctx context.Context, program, backend string) error {
	path, err := filepath.Abs(program)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		p.skipped = append(p.skipped, "Nexus: "+err.Error())
		return nil
	}
	for _, s := range setups(backend) {
		listen := freeAddr()
		file := filepath.Join(p.dir, s.name+".yaml")
		if err := os.WriteFile(file, fmt.Appendf(nil, s.yaml, listen), 0o600); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		subject := &subject{name: s.name, note: s.note, target: target{key: key}}
		if s.name == "nexus-a" {
			subject.target.key = ""
		}
		if err := p.add(ctx, subject, listen, path, "serve", "-c", file); err != nil {
			return err
		}
	}
	return nil
}
