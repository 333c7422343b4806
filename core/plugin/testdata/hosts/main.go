// Command hosts is a guest that calls the host function which the text orders, and puts what it answers in the text's
// place. An order is the function's name and what it is given, with bars between.
package main

import (
	"strconv"
	"strings"

	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

//go:wasmexport nexus_on_text
func onText(n, flags uint32) uint64 { return nexus.HandleText(n, flags, text) }

//go:wasmexport nexus_on_request
func onRequest(n uint32) uint64 { return nexus.HandleRequest(n, request) }

//go:wasmexport nexus_configure
func configure(n uint32) uint64 {
	return nexus.HandleConfigure(n, func(config []byte) error {
		if order, ok := strings.CutPrefix(string(config), `{"order":"`); ok {
			do(strings.TrimSuffix(order, `"}`))
		}
		return nil
	})
}

func text(t *nexus.Text) {
	if b := t.Bytes(); len(b) > 0 {
		t.Replace(0, len(b), do(string(b)), 0)
	}
}

// request obeys an order that is the request's model.
func request(r *nexus.Request) {
	if order, ok := strings.CutPrefix(string(r.Model()), "!"); ok {
		r.SetLabel("answer", do(order))
	}
}

func do(orders string) (answer string) {
	for _, order := range strings.Split(orders, ";") {
		a := strings.Split(order, "|")
		for len(a) < 7 {
			a = append(a, "")
		}
		answer = one(a)
	}
	return answer
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

func found(value string, ok bool) string {
	if !ok {
		return "none"
	}
	return "[" + value + "]"
}

func one(a []string) string {
	switch a[0] {
	case "log":
		nexus.Log(a[1])
	case "label_get":
		return found(nexus.Label(a[1]))
	case "label_set":
		nexus.SetLabel(a[1], a[2])
	case "call_get":
		return found(nexus.Known(nexus.Fact(number(a[1])), a[2]))
	case "model_set":
		nexus.SetModel(a[1])
	case "pool_set":
		nexus.SetPool(a[1])
	case "kv_get":
		return strconv.FormatInt(nexus.Count(a[1]), 10)
	case "kv_incr_if":
		n, ok := nexus.CountIf(a[1], number(a[2]), number(a[3]), number(a[4]))
		return strconv.FormatInt(n, 10) + " " + strconv.FormatBool(ok)
	case "vault_put":
		nexus.VaultPut(a[1], a[2])
	case "fill": // the vault
		for i := range int(number(a[1])) {
			nexus.VaultPut("value", strconv.Itoa(i))
		}
	case "labels":
		for i := range int(number(a[1])) {
			nexus.SetLabel(strconv.Itoa(i), "")
		}
	case "metric":
		f, _ := strconv.ParseFloat(a[2], 64)
		nexus.AddMetric(a[1], f)
	case "now_ms":
		return strconv.FormatInt(nexus.NowMillis(), 10)
	case "random":
		b := make([]byte, number(a[1]))
		nexus.Random(b)
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		return strconv.Itoa(sum)
	case "http":
		return ask(a[1:])
	case "trap":
		var nothing *int
		*nothing = 1
	case "spin":
		for {
		}
	default:
		return raw(a)
	}
	return "done"
}

// ask sends a request: method, URL, a header's name and value, and as many bytes of body.
func ask(a []string) string {
	q := nexus.HTTPRequest{Method: a[0], URL: a[1], Body: strings.Repeat("x", int(number(a[4])))}
	if a[2] != "" {
		q.Header = [][2]string{{a[2], a[3]}}
	}
	r, err := nexus.HTTP(q)
	if err != nil {
		return err.Error()
	}
	out := strconv.Itoa(r.Status)
	for _, h := range r.Header {
		out += " " + h[0] + "=" + h[1]
	}
	return out + " " + r.Body
}

func main() {}
