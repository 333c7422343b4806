package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nexus-gateway/nexus/core/llm"
	"github.com/nexus-gateway/nexus/core/pipeline"
)

// quick are limits short enough to run into.
func quick() Config {
	c := defaults
	c.Timeouts = TimeoutsConfig{ReadHeader: 300 * time.Millisecond, BodyGap: 200 * time.Millisecond, Body: 400 * time.Millisecond, Idle: 2 * time.Second, Write: 300 * time.Millisecond}
	return c
}

const postHead = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

func callText() string {
	return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", postHead, len(chatBody), chatBody)
}

// dial connects and sends text; everything on the connection ends within 5 s.
func dial(t *testing.T, address, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(conn, text)
	return conn, bufio.NewReader(conn)
}

// answerOf reads one reply; 0 when there is none.
func answerOf(r *bufio.Reader) (status int, body string, err error) {
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, "", err
	}
	data, err := io.ReadAll(response.Body)
	return response.StatusCode, string(data), err
}

// ends reports how long the server takes to close the connection.
func ends(t *testing.T, r *bufio.Reader) time.Duration {
	t.Helper()
	began := time.Now()
	if rest, err := io.ReadAll(r); err != nil && errors.Is(err, context.DeadlineExceeded) || len(rest) > 0 {
		t.Errorf("the connection was not closed: %q, %v", rest, err)
	}
	return time.Since(began)
}

// A15: whoever promises a body and does not send it holds nothing, whether or not anybody wants to read it.
func TestUnreadBodyHoldsNothing(t *testing.T) {
	refuse := func(context.Context, *pipeline.Call) (*llm.Reply, error) { return whole(200, `{}`), nil }
	address := start(t, quick(), refuse)
	for _, tt := range []struct {
		name, request string
		status        int
	}{
		{"no such path", "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", 404},
		{"wrong method", "PUT /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", 405},
		{"odd path", "POST //x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", 400},
		{"wrong type", "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", 415},
		{"body of a GET", "GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", 200},
		{"chunked body of a GET", "GET /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n", 200},
		{"never sent", postHead + "Content-Length: 1000\r\n\r\n", 408},
		{"a byte of it", postHead + "Content-Length: 1000\r\n\r\n{", 408},
		{"half a chunk", postHead + "Transfer-Encoding: chunked\r\n\r\nff\r\n{", 408},
		{"too large, never sent", postHead + "Content-Length: 99999999\r\n\r\n", 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, r := dial(t, address, tt.request)
			status, body, err := answerOf(r)
			if status != tt.status || err != nil {
				t.Fatalf("status %d, %v, want %d: %s", status, err, tt.status, body)
			}
			ends(t, r)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("the connection was held for %v", took)
			}
		})
	}
}

// Drops of a body that come often enough for the gap still end with the body's time.
func TestTricklingBodyIsCutOff(t *testing.T) {
	address := start(t, quick(), ok)
	conn, r := dial(t, address, postHead+"Content-Length: 1000\r\n\r\n")
	go func() {
		for range 100 {
			if _, err := conn.Write([]byte(" ")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	began := time.Now()
	if status, _, _ := answerOf(r); status != 408 || time.Since(began) > 1500*time.Millisecond {
		t.Errorf("status %d after %v, want 408", status, time.Since(began))
	}
	_ = conn.Close()
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	address := start(t, quick(), ok)
	_, r := dial(t, address, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-A: ")
	began := time.Now()
	_, _ = io.ReadAll(r)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("held for %v", took)
	}
}

// Who stops sending has left (or looks like it) and must not get an empty 200, nor a cut stream that ends
// as if it were whole.
func TestHalfClosedCallerSeesNoSuccess(t *testing.T) {
	for _, streamed := range []bool{false, true} {
		t.Run(fmt.Sprint("stream ", streamed), func(t *testing.T) {
			e := &events{chunks: make(chan llm.Chunk, 1), err: context.Canceled}
			address := start(t, defaults, func(ctx context.Context, _ *pipeline.Call) (*llm.Reply, error) {
				if !streamed {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				context.AfterFunc(ctx, func() { close(e.chunks) })
				return e.reply(), nil
			})
			e.chunks <- event("1")
			conn, r := dial(t, address, callText())
			time.Sleep(50 * time.Millisecond)
			_ = conn.(*net.TCPConn).CloseWrite()
			if status, body, err := answerOf(r); err == nil {
				t.Errorf("got %d %q and a clean end", status, body)
			}
		})
	}
}

// C-50: a panic in mid-stream ends that stream alone, and not as if it were whole.
func TestPanicInMidStream(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", version), func(t *testing.T) {
			e := &bomb{events{chunks: make(chan llm.Chunk, 1)}}
			address := start(t, defaults, func(context.Context, *pipeline.Call) (*llm.Reply, error) {
				return &llm.Reply{Status: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Stream: e}, nil
			})
			e.chunks <- event("1")
			close(e.chunks)
			response, err := client(t, version).Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err == nil || !strings.HasPrefix(string(body), "data: 1\n\ndata: {\"error\":{") || strings.Contains(string(body), "secret") {
				t.Errorf("got %q, %v; want the event, an error event and a broken end", body, err)
			}
			waitFor(t, e.closed.Load)
		})
	}
}

type bomb struct{ events }

func (b *bomb) Next() (llm.Chunk, error) {
	if c, open := <-b.chunks; open {
		return c, nil
	}
	panic("the secret reason")
}

// client speaks HTTP of one version, without TLS.
func client(t *testing.T, version int) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(version == 1)
	protocols.SetUnencryptedHTTP2(version == 2)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// A stream that waits for longer than a write may take is not cut, on HTTP/2 either, where a deadline that
// passes resets the stream though nothing is being written.
func TestStreamMayWaitLongerThanAWrite(t *testing.T) {
	c := quick()
	c.Timeouts.Write = 400 * time.Millisecond
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", version), func(t *testing.T) {
			e := &events{chunks: make(chan llm.Chunk), err: io.EOF}
			address := start(t, c, func(context.Context, *pipeline.Call) (*llm.Reply, error) {
				time.Sleep(600 * time.Millisecond)
				return e.reply(), nil
			})
			go func() {
				defer close(e.chunks)
				for range 3 {
					e.chunks <- event("x")
					time.Sleep(600 * time.Millisecond)
				}
			}()
			response, err := client(t, version).Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || strings.Count(string(body), "data: x") != 3 {
				t.Errorf("got %q, %v", body, err)
			}
		})
	}
}

// A stream that begins with what is for nobody, such as a tool call that is held, may wait as long.
func TestStreamMayBeginWithAWait(t *testing.T) {
	c := quick()
	c.Timeouts.Write = 300 * time.Millisecond
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", version), func(t *testing.T) {
			e := &events{chunks: make(chan llm.Chunk), err: io.EOF}
			address := start(t, c, func(context.Context, *pipeline.Call) (*llm.Reply, error) { return e.reply(), nil })
			go func() {
				defer close(e.chunks)
				held := event("x")
				held.Raw = nil
				e.chunks <- held
				time.Sleep(600 * time.Millisecond)
				e.chunks <- event("x")
			}()
			response, err := client(t, version).Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || strings.Count(string(body), "data: x") != 1 {
				t.Errorf("got %q, %v", body, err)
			}
		})
	}
}

// A reply without a body keeps its status.
func TestEmptyBodyKeepsItsStatus(t *testing.T) {
	address := start(t, defaults, func(context.Context, *pipeline.Call) (*llm.Reply, error) { return whole(http.StatusNotFound, ""), nil })
	response, err := http.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(chatBody))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", response.StatusCode)
	}
}

// A refusal that comes late is still told, and neither it nor a reply leaves a deadline for what follows on
// the connection.
func TestWriteDeadlinesDoNotLeak(t *testing.T) {
	c := quick()
	c.Timeouts.Write = 100 * time.Millisecond
	var calls atomic.Int64
	address := start(t, c, func(context.Context, *pipeline.Call) (*llm.Reply, error) {
		time.Sleep(200 * time.Millisecond)
		if calls.Add(1)%2 == 0 {
			return whole(200, `{"ok":true}`), nil
		}
		return nil, &pipeline.Refusal{Kind: pipeline.GatewayTimeout, Reason: "Late."}
	})
	conn, r := dial(t, address, "")
	for i, want := range []int{504, 200, 504, 200} {
		_, _ = io.WriteString(conn, callText())
		if status, body, err := answerOf(r); status != want || err != nil || body == "" {
			t.Fatalf("call %d: %d %q, %v; want %d", i, status, body, err, want)
		}
		time.Sleep(200 * time.Millisecond)
	}
	_, _ = io.WriteString(conn, "GET /v1/models HTTP/1.1\r\nbroken\r\n\r\n")
	if status, _, err := answerOf(r); status != 400 {
		t.Errorf("net/http's own refusal: %d, %v; want 400", status, err)
	}
}

// A caller who sends calls and reads no replies is cut off, however small the replies.
func TestUnreadSmallRepliesAreCutOff(t *testing.T) {
	address := start(t, quick(), ok)
	conn, _ := dial(t, address, "")
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	_ = conn.SetWriteDeadline(time.Now().Add(1500 * time.Millisecond)) // well after the server has given up
	many := bytes.Repeat([]byte("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"), 1000)
	for err := error(nil); err == nil; {
		_, err = conn.Write(many)
	}
	_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	var late net.Error
	if _, err := io.Copy(io.Discard, conn); errors.As(err, &late) && late.Timeout() {
		t.Error("the connection is still open")
	}
}

func TestReaderOfALargeReply(t *testing.T) {
	body := `"` + strings.Repeat("x", 16<<20) + `"`
	address := start(t, quick(), func(context.Context, *pipeline.Call) (*llm.Reply, error) { return whole(200, body), nil })
	_, r := dial(t, address, callText())
	if status, got, err := answerOf(r); status != 200 || err != nil || got != body {
		t.Errorf("quick: %d, %d bytes, %v", status, len(got), err)
	}
	conn, r := dial(t, address, callText())
	time.Sleep(600 * time.Millisecond) // twice the write timeout
	if _, got, err := answerOf(r); err == nil {
		t.Errorf("slow: all %d bytes came though nobody read for so long", len(got))
	}
	_ = conn.Close()
}
