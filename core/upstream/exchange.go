package upstream

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"time"
)

// posted stands for our request, whichever it is, when net/http reads the response to it.
var posted = &http.Request{Method: http.MethodPost}

// exchange sends a request and reads the response's head. The body is put behind head where there is room.
func (c *conn) exchange(head *[]byte, body []byte) (*http.Response, error) {
	if c.line != nil {
		return c.line.exchange(*head, body)
	}
	if len(body) > largeBody {
		return c.exchangeLarge(*head, body)
	}
	var sent error
	if len(body) <= cap(*head)-len(*head) {
		*head = append(*head, body...)
		_, sent = c.Write(*head)
	} else {
		parts := net.Buffers{*head, body}
		_, sent = parts.WriteTo(c.Conn)
	}
	response, err := c.readResponse(posted) // even after a failed write: a backend may answer and close early
	if err == nil && sent != nil {
		response.Close = true // half a request is on its way: nothing may follow it
	}
	return response, err
}

// largeBody is as much as a socket's buffers surely take, in bytes. A backend may refuse a larger body
// before it has read it, and then neither side must wait for the other.
const largeBody = 128 << 10

// exchangeLarge writes the body while it already listens for the answer.
func (c *conn) exchangeLarge(head, body []byte) (*http.Response, error) {
	wrote := make(chan error, 1)
	go func() {
		parts := net.Buffers{head, body}
		_, err := parts.WriteTo(c.Conn)
		wrote <- err
	}()
	response, err := c.readResponse(posted)
	if err != nil || response.StatusCode != http.StatusOK {
		_ = c.SetWriteDeadline(time.Unix(1, 0)) // refused: the rest is not wanted
	}
	if sent := <-wrote; err == nil && sent != nil {
		response.Close = true
	}
	return response, err
}

// Asked for identity, who compresses anyway would have its streams buffered by the decoder; another backend will not.
var errEncoded = errors.New("a Content-Encoding that was not accepted")

func isEncoded(h http.Header) bool {
	encoding := h.Get("Content-Encoding")
	return encoding != "" && !strings.EqualFold(encoding, "identity")
}
