package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// maxTunnelHead bounds a proxy's answer, in bytes.
const maxTunnelHead = 16 << 10

// tunnel asks the proxy at the other end of socket for a way to address.
func (l *link) tunnel(ctx context.Context, socket net.Conn, address string) (net.Conn, error) {
	way := socket
	if l.proxy.Scheme == "https" {
		secure := tls.Client(socket, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: l.proxy.Hostname()})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		way = secure
	}
	unhook := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	err := l.connect(way, address)
	if !unhook() {
		return nil, context.Cause(ctx)
	}
	return way, err
}

func (l *link) connect(way net.Conn, address string) error {
	head := "CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: nexus\r\n"
	if user := l.proxy.User; user != nil {
		password, _ := user.Password()
		head += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(way, head+"\r\n"); err != nil {
		return err
	}
	in := bufio.NewReader(io.LimitReader(way, maxTunnelHead))
	response, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
	switch {
	case err != nil:
		return headError(err)
	case response.StatusCode == http.StatusProxyAuthRequired:
		return errors.New("it refuses the gateway's credential")
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("it answers %d", response.StatusCode)
	case in.Buffered() > 0:
		return errors.New("something was said before anything was asked")
	}
	return nil
}
