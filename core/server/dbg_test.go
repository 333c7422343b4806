package server
import ("testing";"net";"bytes";"time";"runtime/pprof";"os")
func TestDbg(t *testing.T) {
	address := start(t, quick(), ok)
	conn, _ := dial(t, address, "")
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	many := bytes.Repeat([]byte("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"), 1000)
	n := 0
	time.AfterFunc(4*time.Second, func(){ println(n); pprof.Lookup("goroutine").WriteTo(os.Stderr, 2) })
	for {
		if _, err := conn.Write(many); err != nil { t.Log(err, n); return }
		n++
	}
}
