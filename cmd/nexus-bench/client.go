package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// A client is one HTTP/1.1 connection that asks one request again and again. It reads no more of an
// answer than it must, so that the load costs little of the machine it is measured on.
type client struct {
	addr    string
	request []byte
	conn    net.Conn
	in      *bufio.Reader
	events  counter
}

// A counter counts the events in a body that comes in pieces: an empty line ends each.
type counter struct {
	n       int
	newline bool
	done    bool // the last event was [DONE]
	tail    [len(doneMark)]byte
	seen    func() // called at each event, if set
}

const doneMark = "data: [DONE]\n\n"

// request is the text of a POST to path.
func request(path, key, body string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path, len(body))
	if key != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", key)
	}
	b.WriteString("\r\n" + body)
	return b.Bytes()
}

// longest is the time one request may take.
const longest = 2 * time.Minute

func (c *client) connect(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	d := net.Dialer{Timeout: 10 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	c.conn, c.in = conn, bufio.NewReaderSize(conn, 4<<10)
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close() // read or not, it is over
		c.conn = nil
	}
}

// do asks once and reads the whole answer. After an error the connection is closed.
func (c *client) do(ctx context.Context, stream bool) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.exchange(stream); err != nil {
		c.close()
		return err
	}
	return nil
}

func (c *client) exchange(stream bool) error {
	_ = c.conn.SetDeadline(time.Now().Add(longest))
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	h, err := c.header()
	if err != nil {
		return err
	}
	if h.status != 200 {
		said, _ := c.in.Peek(min(c.in.Buffered(), 300)) // what came along says most
		return fmt.Errorf("status %d: %s", h.status, bytes.TrimSpace(said))
	}
	c.events.n, c.events.newline, c.events.done = 0, false, false
	if err := c.body(h); err != nil {
		return err
	}
	if stream && !c.events.done {
		return errors.New("a stream without [DONE]")
	}
	if h.close {
		c.close()
	}
	return nil
}

type header struct {
	status  int
	length  int
	chunked bool
	close   bool
}

func (c *client) header() (h header, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return h, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return h, fmt.Errorf("no HTTP/1 answer: %q", line)
	}
	if h.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return h, err
	}
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return h, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			return h, nil
		}
		if err := h.field(line); err != nil {
			return h, err
		}
	}
}

func (h *header) field(line []byte) (err error) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimSpace(value)
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		h.length, err = strconv.Atoi(string(value))
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		h.chunked = bytes.EqualFold(value, []byte("chunked"))
	case bytes.EqualFold(name, []byte("Connection")):
		h.close = bytes.EqualFold(value, []byte("close"))
	}
	return err
}

func (c *client) body(h header) error {
	if !h.chunked {
		return c.read(h.length)
	}
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(string(bytes.TrimRight(line, "\r\n")), 16, 31)
		if err != nil {
			return fmt.Errorf("chunk size: %w", err)
		}
		if err := c.read(int(n)); err != nil {
			return err
		}
		if _, err := c.in.Discard(2); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

// read passes n bytes of body to the counter.
func (c *client) read(n int) error {
	for n > 0 {
		if _, err := c.in.Peek(1); err != nil {
			return err
		}
		b, _ := c.in.Peek(min(n, c.in.Buffered())) // they are there
		c.events.count(b)
		if _, err := c.in.Discard(len(b)); err != nil {
			return err
		}
		n -= len(b)
	}
	return nil
}

func (c *counter) count(b []byte) {
	if len(b) >= len(c.tail) {
		copy(c.tail[:], b[len(b)-len(c.tail):])
	} else {
		copy(c.tail[:], c.tail[len(b):])
		copy(c.tail[len(c.tail)-len(b):], b)
	}
	c.done = string(c.tail[:]) == doneMark
	for len(b) > 0 {
		if c.newline && b[0] == '\n' {
			c.n++
			if c.seen != nil {
				c.seen()
			}
		}
		c.newline = b[0] == '\n' && !c.newline
		i := 1
		if !c.newline {
			if i = bytes.IndexByte(b[1:], '\n') + 1; i == 0 {
				return
			}
		}
		b = b[i:]
	}
}
