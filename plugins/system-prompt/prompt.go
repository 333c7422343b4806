package main

import (
	"strconv"

	"github.com/nexus-gateway/nexus/plugins/callers"
	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

// A prompter tells models an organisation's own words first. It is set at load and never changes after.
type prompter struct {
	rules []rule // the first that names the call counts
	other saying // what is said when none does
}

type rule struct {
	callers.Rule
	saying
}

// A saying is a system prompt and its place; an empty text says nothing.
type saying struct {
	text  callers.Template
	where nexus.Place
}

// Bounds of a configuration, and of what is filled in.
const (
	maxRules  = 256
	maxText   = 16 << 10 // bytes
	maxFilled = 128      // bytes of one name
)

// request says what there is to say of one call. Only calls that hold a conversation have a place for it.
func (p *prompter) request(r *nexus.Request) {
	if route := string(r.Route()); route != "chat" && route != "responses" {
		return
	}
	s := p.of(r)
	if len(s.text) == 0 {
		return
	}
	text := s.text.Append(nil, func(b []byte, hole string) []byte {
		switch hole {
		case "tenant":
			return callers.AppendPlain(b, r.Tenant(), maxFilled)
		case "team":
			return callers.AppendPlain(b, r.Team(), maxFilled)
		}
		return callers.AppendName(b, r.Model(), maxFilled) // the caller's own words must not become the organisation's
	})
	if len(text) > 0 {
		r.SetSystem(s.where, apart(string(text), s.where, r))
	}
}

// apart keeps a text and the caller's own a blank line from each other. Where there may be none, in a system message or
// in instructions, it stands by itself.
func apart(text string, where nexus.Place, r *nexus.Request) string {
	switch {
	case where == nexus.Instead || r.Systems() == 0 && string(r.Route()) != "responses":
		return text
	case where == nexus.After:
		return "\n\n" + text
	}
	return text + "\n\n"
}

func (p *prompter) of(r *nexus.Request) *saying {
	who := callers.Of(r)
	who.Route, who.Model = r.Route(), r.Model()
	for i := range p.rules {
		if p.rules[i].Names(&who) {
			return &p.rules[i].saying
		}
	}
	return &p.other
}

// configure reads the plugin's configuration; the manifest says what may stand there.
func (p *prompter) configure(config []byte) error {
	next := prompter{other: saying{where: nexus.Before}}
	if len(config) > 0 {
		doc, err := nexus.ParseJSON(config)
		if err != nil {
			return err
		}
		if err := doc.EachMember(next.set); err != nil {
			return err
		}
	}
	if len(next.rules) == 0 && len(next.other.text) == 0 {
		return nexus.Error("there is nothing to say: write text, or rules with one")
	}
	*p = next
	return nil
}

func (p *prompter) set(name string, v nexus.JSON) error {
	if name == "rules" {
		if v.Kind() != nexus.KindList || v.Len() > maxRules {
			return nexus.Error("rules must be a list of at most 256 rules")
		}
		return v.EachElement(p.addRule)
	}
	known, err := p.other.set(name, v)
	if !known {
		return nexus.Error("unknown key " + name + ": write rules, text or where")
	}
	return err
}

func (p *prompter) addRule(i int, v nexus.JSON) error {
	at := "rules[" + strconv.Itoa(i) + "]"
	if v.Kind() != nexus.KindObject {
		return nexus.Error(at + " must be an object")
	}
	r := rule{saying: saying{where: nexus.Before}}
	err := v.EachMember(func(name string, v nexus.JSON) error {
		known, err := r.saying.set(name, v)
		if !known {
			known, err = r.Set(name, v)
		}
		if !known {
			err = nexus.Error("unknown key " + name + ": write keys, tenants, teams, tiers, routes, models, text or where")
		}
		if err != nil {
			return nexus.Error(at + ": " + err.Error())
		}
		return nil
	})
	p.rules = append(p.rules, r)
	return err
}

func (s *saying) set(name string, v nexus.JSON) (known bool, err error) {
	word, ok := v.Text()
	switch name {
	case "text":
		if !ok || len(word) > maxText {
			return true, nexus.Error("text must be a text of at most 16 KiB")
		}
		s.text, err = callers.ParseTemplate(word, "tenant", "team", "model")
		return true, err
	case "where":
		s.where = nexus.Place(word)
		if s.where != nexus.Before && s.where != nexus.After && s.where != nexus.Instead {
			return true, nexus.Error("where must be before, after or replace")
		}
		return true, nil
	}
	return false, nil
}
