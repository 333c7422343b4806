package main

import (
	"github.com/nexus-gateway/nexus/plugins/callers"
	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

// A policy says which headers a caller must and must not send, and which go to the backend and back. It is set at load and
// never changes after.
type policy struct{ rules []rule }

// A rule speaks of some calls. All that name a call apply to it, in their order.
type rule struct {
	callers.Rule
	require, forbid []string // names in lower case, as are forward's
	forward         []string // from the caller to the backend
	request, reply  []change // made on the way to the backend, and to the caller
}

// A change sets a header, or takes it out when it has no value.
type change struct {
	name  string
	value callers.Template
}

const maxValue = 512 // bytes of a value, filled in

// request makes a call's headers what the rules want.
func (p *policy) request(r *nexus.Request) {
	who := callers.Of(r)
	who.Route, who.Model = r.Route(), r.Model()
	for i := range p.rules {
		if p.rules[i].Names(&who) && !p.rules[i].admits(r) {
			return
		}
	}
	for i := range p.rules {
		if p.rules[i].Names(&who) {
			p.rules[i].apply(r)
		}
	}
}

// admits refuses a call that lacks a header or has one too many.
func (l *rule) admits(r *nexus.Request) bool {
	for _, name := range l.require {
		if len(r.Header(name)) == 0 {
			r.Refuse(400, "header_missing", "The request lacks the header "+name+", which has to be sent.")
			return false
		}
	}
	for _, name := range l.forbid {
		if r.Header(name) != nil {
			r.Refuse(400, "header_forbidden", "The request has the header "+name+", which must not be sent.")
			return false
		}
	}
	return true
}

func (l *rule) apply(r *nexus.Request) {
	for _, name := range l.forward {
		if value := r.Header(name); len(value) > 0 {
			r.SetRequestHeader(name, string(value))
		}
	}
	for i := range l.request {
		r.SetRequestHeader(l.request[i].name, l.request[i].filled(r))
	}
	for i := range l.reply {
		c := &l.reply[i]
		if value := c.filled(r); value != "" {
			r.SetHeader(c.name, value)
		} else {
			r.DropHeader(c.name)
		}
	}
}

// filled is the value for one call; a call that leaves nothing to say takes the header out.
func (c *change) filled(r *nexus.Request) string {
	b := c.value.Append(nil, func(b []byte, hole string) []byte { return appendASCII(b, fact(r, hole)) })
	return string(b[:min(len(b), maxValue)])
}

// holes are what values may be filled in with.
var holes = []string{"tenant", "team", "tier", "principal", "model", "route", "request_id"}

func fact(r *nexus.Request, hole string) []byte {
	switch hole {
	case "tenant":
		return r.Tenant()
	case "team":
		return r.Team()
	case "tier":
		return r.Tier()
	case "principal":
		return r.Principal()
	case "model":
		return r.Model()
	case "route":
		return r.Route()
	}
	return r.ID()
}

// appendASCII appends what stands in a header everywhere, with _ for every other byte.
func appendASCII(b, text []byte) []byte {
	for _, c := range text {
		if c < ' ' || c > '~' {
			c = '_'
		}
		b = append(b, c)
	}
	return b
}
