package mock

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"time"
)

// An out writes the events of one stream at its pace and with its faults. It makes no garbage for an
// event: one buffer, one timer, one write, one flush.
type out struct {
	x      *exchange
	ctx    context.Context
	rc     *http.ResponseController
	fault  *Fault
	buf    []byte // the event being made
	timer  *time.Timer
	next   time.Time // when the next piece is due
	zip    *gzip.Writer
	pieces int // sent so far
}

func (x *exchange) out(start time.Time) *out {
	o := &out{x: x, ctx: x.r.Context(), rc: http.NewResponseController(x.w), fault: &x.script.fault, next: start}
	o.timer = time.NewTimer(time.Hour)
	o.timer.Stop()
	h := x.w.Header()
	h["Content-Type"] = streamType
	if o.fault.has(zipped) {
		h["Content-Encoding"] = gzipContent
		o.zip = gzip.NewWriter(x.w)
	}
	return o
}

// begin is where the next event's JSON goes.
func (o *out) begin() []byte { return append(o.buf[:0], "data: "...) }

// send writes b, made from begin, as one event.
func (o *out) send(b []byte) error {
	o.buf = append(b, "\n\n"...)
	if o.fault.plain() {
		_, err := o.x.w.Write(o.buf)
		return err
	}
	return o.odd(o.buf)
}

// flush puts what was sent on the wire. Without a pace the server's buffer decides.
func (o *out) flush() error {
	if o.x.script.pace == 0 {
		return nil
	}
	return o.rc.Flush()
}

// odd writes an event the way the fault wants it.
func (o *out) odd(b []byte) error {
	if o.fault.has(noSpace) {
		b = bytes.Replace(b, []byte("data: "), []byte("data:"), 1)
	}
	if o.fault.has(comments) {
		b = append([]byte(": keep-alive\n\n"), b...)
	}
	if o.fault.has(crlf) {
		b = bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
	}
	if o.zip != nil {
		_, err := o.zip.Write(b)
		if err == nil {
			err = o.zip.Flush()
		}
		return err
	}
	if o.fault.has(bytewise) || o.fault.drip > 0 {
		return o.drip(b)
	}
	_, err := o.x.w.Write(b)
	return err
}

func (o *out) drip(b []byte) error {
	for i := range b {
		if o.fault.drip > 0 {
			if err := wait(o.ctx, o.timer, time.Now().Add(o.fault.drip)); err != nil {
				return err
			}
		}
		if _, err := o.x.w.Write(b[i : i+1]); err != nil {
			return err
		}
		if err := o.rc.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// first waits for the reply's first token.
func (o *out) first() error { return wait(o.ctx, o.timer, o.next) }

// due waits until the next piece may leave.
func (o *out) due() error {
	if o.pieces == 0 || o.x.script.pace == 0 {
		return o.ctx.Err()
	}
	o.next = o.next.Add(o.x.script.pace)
	return wait(o.ctx, o.timer, o.next)
}

// cut does what the fault does once enough pieces were sent. errGone: the reply has ended.
func (o *out) cut() error {
	f := o.fault
	if f.cut == cutNone || o.pieces < f.at {
		return nil
	}
	_ = o.rc.Flush() // what was sent before the cut is to arrive; a client that left is no news
	switch f.cut {
	case cutDie:
		panic(http.ErrAbortHandler)
	case cutReset:
		o.x.hijack("", true)
	case cutStall:
		o.x.idle(f.lasting)
		panic(http.ErrAbortHandler)
	case cutError:
		_ = o.send(append(o.begin(), o.x.inBand(f.errorCode())...)) // the reply ends either way
		_ = o.send(append(o.begin(), "[DONE]"...))
	}
	return errGone
}

// inBand is an error as the engines put it into a stream.
func (x *exchange) inBand(code int) string {
	body := envelope(false, code, "", errorText)
	if x.s.opts.Kind == SGLang {
		return `{"error":` + body + `}`
	}
	return envelope(true, code, "", errorText)
}

// spoil adds the extra events of the fault before a piece.
func (o *out) spoil() error {
	f := o.fault
	if f.malformed == o.pieces+1 {
		if err := o.send(append(o.begin(), `{"id":"chatcmpl-x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"brok`...)); err != nil {
			return err
		}
	}
	if f.big > 0 && o.pieces == 0 {
		b := append(o.begin(), `{"id":"chatcmpl-x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":""},"finish_reason":null}],"padding":"`...)
		b = append(b, bytes.Repeat([]byte("x"), f.big)...)
		return o.send(append(b, `"}`...))
	}
	return nil
}

// end writes what stands after the answer.
func (o *out) end(marker string) error {
	if o.fault.has(noDone) || marker == "" {
		return o.close()
	}
	times := 1
	if o.fault.has(twoDones) {
		times = 2
	}
	for range times {
		if err := o.send(append(o.begin(), marker...)); err != nil {
			return err
		}
	}
	if o.fault.has(trailing) {
		if err := o.send(append(o.begin(), `{"garbage":true`...)); err != nil {
			return err
		}
	}
	return o.close()
}

func (o *out) close() error {
	if o.zip != nil {
		return o.zip.Close()
	}
	return nil
}
