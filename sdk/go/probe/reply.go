package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

func toolCall(t *nexus.ToolCall) {
	switch string(t.Name()) {
	case "drop":
		t.Drop("[dropped]")
	case "refuse":
		t.Refuse(403, "probe_refused", "asked to refuse")
	case "rewrite":
		t.SetArguments(`{"rewritten":true}`)
	case "trap":
		panic("asked to trap")
	}
}

func usage(u *nexus.Usage) {
	if u.Completion() > 1000 {
		u.Refuse(429, "probe_usage", "too much")
	}
}

func end(*nexus.End) { nexus.AddMetric("ended", 1) }
