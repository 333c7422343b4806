package quota

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/setting"
)

// A server is a real redis-server that a test may kill and start again.
type server struct {
	port string
	args []string
	cmd  *exec.Cmd
}

// startRedis starts a redis-server on a free port; where none is installed the test is skipped, and
// says so. .ci/run installs one.
func startRedis(t testing.TB, args ...string) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("NEXUS_E2E") != "" {
			t.Fatal("redis-server is not installed")
		}
		t.Skip("SKIPPED: redis-server is not installed, so nothing was tested against a real Redis")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{port: strconv.Itoa(l.Addr().(*net.TCPAddr).Port), args: args}
	l.Close()
	s.start(t)
	t.Cleanup(s.kill)
	return s
}

func (s *server) start(t testing.TB) {
	t.Helper()
	args := append([]string{"--port", s.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", os.TempDir()}, s.args...)
	s.cmd = exec.Command("redis-server", args...)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if conn, err := net.Dial("tcp", s.addr()); err == nil {
			conn.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("redis-server does not answer")
}

// kill ends the server at once, as a machine that fails does.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) addr() string { return "127.0.0.1:" + s.port }

func redisConfig(addr string) Config {
	return Config{
		Store: "redis", WhenStoreDown: "deny", Replicas: 1, Completion: Completion{Default: 100},
		Redis: Redis{URL: setting.NewSecret("redis://" + addr), Timeout: 50 * time.Millisecond, DialTimeout: 200 * time.Millisecond, PoolSize: 16, KeyPrefix: "t"},
	}
}

// RedisConfig and StartRedis are for the tests outside the package.
var RedisConfig = redisConfig

func StartRedis(t testing.TB) string { return startRedis(t).addr() }
