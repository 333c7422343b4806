// Command lawless is a plugin that breaks the one law it is configured to break, so that the suite is seen to notice.
package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

//go:wasmexport nexus_configure
func configure(n uint32) uint64 { return nexus.HandleConfigure(n, read) }

//go:wasmexport nexus_on_text
func onText(n, flags uint32) uint64 { return nexus.HandleText(n, flags, text) }

//go:wasmexport nexus_on_request
func onRequest(n uint32) uint64 {
	size = int(n)
	return nexus.HandleRequest(n, request)
}

var (
	sin    string
	count  int
	hoard  [][]byte
	last   *kept
	wasted int
	size   int // of the question
)

// read takes any setting, which is a sin of its own where no schema stands before it.
func read(config []byte) error {
	c, err := nexus.ParseJSON(config)
	sin, _ = c.Get("sin").Text()
	return err
}

// kept is a word of memory that is never given back.
type kept struct{ next *kept }

const word = "secret"

func text(t *nexus.Text) {
	b := t.Bytes()
	count++
	switch sin {
	case "held":
		if len(b) > 1 && b[len(b)-1] < 0x80 {
			t.Hold(1)
		}
		return
	case "greedy":
		if !t.Final() {
			t.Hold(len(b))
		}
		return
	case "state":
		if count > 40 && len(b) > 0 && b[0] < 0x80 {
			t.Replace(0, 1, "#", 0)
			return
		}
	case "moody":
		if count%2 == 0 {
			t.Report(0, 0, 1)
		}
		return
	case "square":
		for i := range b {
			for _, c := range b[:i/16] {
				wasted += int(c)
			}
		}
	case "leak":
		hoard = append(hoard, make([]byte, 200<<10))
	case "trickle":
		last = &kept{last}
	case "roles":
		if t.Role() > nexus.Tool {
			panic("an unknown role")
		}
	case "answers":
		if len(b) > 20<<10 {
			t.Fail("too long for me")
		}
	}
	mask(t, b)
}

func mask(t *nexus.Text, b []byte) {
	for i := 0; i < len(b); {
		switch rest := b[i:]; {
		case len(rest) >= len(word) && string(rest[:len(word)]) == word:
			t.Replace(i, i+len(word), "*", 1)
			i += len(word)
		case sin != "cuts" && !t.Final() && len(rest) < len(word) && string(rest) == word[:len(rest)]:
			t.Hold(len(rest))
			return
		default:
			i++
		}
	}
}

func request(r *nexus.Request) {
	switch sin {
	case "grease":
		r.SetLabel("size", string(rune('a'+size%26)))
	case "bytes":
		r.SetLabel("name", "\xff")
	case "model":
		r.SetModel("other") // without the capability
	case "trickle of requests":
		last = &kept{last}
	}
}

func main() {}
