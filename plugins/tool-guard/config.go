package main

import (
	"strconv"

	"github.com/nexus-gateway/nexus/plugins/callers"
	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

// Bounds of a configuration.
const (
	maxRules     = 256
	maxSchemas   = 256
	maxArguments = 192 << 10 // bytes: what the in buffer takes beside a schema
	maxMessage   = 512       // bytes
)

func newGuard() guard {
	return guard{needOffer: true, useOffered: true, largest: 64 << 10, message: "The call of {tool} was refused: {reason}."}
}

// configure reads the plugin's configuration; the manifest says what may stand there.
func (g *guard) configure(config []byte) error {
	next := newGuard()
	if len(config) > 0 {
		doc, err := nexus.ParseJSON(config)
		if err != nil {
			return err
		}
		if doc.Kind() != nexus.KindObject {
			return nexus.Error("the configuration must be an object")
		}
		if err := doc.EachMember(next.set); err != nil {
			return err
		}
	}
	*g = next
	return nil
}

func (g *guard) set(name string, v nexus.JSON) (err error) {
	switch name {
	case "rules":
		if v.Kind() != nexus.KindList || v.Len() > maxRules {
			return nexus.Error("rules must be a list of at most 256 rules")
		}
		return v.EachElement(g.addRule)
	case "schemas":
		if v.Kind() != nexus.KindObject || v.Len() > maxSchemas {
			return nexus.Error("schemas must be an object: a tool's name, or a pattern, and its JSON Schema")
		}
		return v.EachMember(g.addSchema)
	case "offered":
		g.needOffer, err = either(name, v, "require", "ignore")
	case "offered_schema":
		g.useOffered, err = either(name, v, "check", "ignore")
	case "on_offer":
		g.refuseOffers, err = either(name, v, "refuse", "ignore")
	case "on_refused":
		g.end, err = either(name, v, "end", "replace")
	case "message":
		g.message, err = message(v)
	case "largest_arguments":
		g.largest, err = between(name, v, 2, maxArguments)
	case "most_calls":
		g.most, err = between(name, v, 0, 1024)
	default:
		return nexus.Error("unknown key " + name + ": write rules, schemas, offered, offered_schema, on_offer, on_refused, message, largest_arguments or most_calls")
	}
	return err
}

// either reports whether v is the first of two words.
func either(name string, v nexus.JSON, yes, no string) (bool, error) {
	word, _ := v.Text()
	if word != yes && word != no {
		return false, nexus.Error(name + " must be " + yes + " or " + no)
	}
	return word == yes, nil
}

func between(name string, v nexus.JSON, least, most int64) (int, error) {
	n, ok := v.Int()
	if !ok || n < least || n > most {
		return 0, nexus.Error(name + " must be a whole number from " + strconv.FormatInt(least, 10) + " to " + strconv.FormatInt(most, 10))
	}
	return int(n), nil
}

func message(v nexus.JSON) (string, error) {
	text, ok := v.Text()
	if !ok || len(text) > maxMessage || string(callers.AppendPlain(nil, []byte(text), maxMessage)) != text {
		return "", nexus.Error("message must be a text of at most 512 bytes without control characters; {tool} and {reason} are filled in")
	}
	return text, nil
}

func (g *guard) addRule(i int, v nexus.JSON) error {
	var r rule
	at := "rules[" + strconv.Itoa(i) + "]"
	if v.Kind() != nexus.KindObject {
		return nexus.Error(at + " must be an object")
	}
	err := v.EachMember(func(name string, v nexus.JSON) error {
		if err := r.set(name, v); err != nil {
			return nexus.Error(at + ": " + err.Error())
		}
		return nil
	})
	g.rules = append(g.rules, r)
	return err
}

func (r *rule) set(name string, v nexus.JSON) (err error) {
	switch name {
	case "allow":
		r.allow, err = callers.Patterns(name, v)
		return err
	case "deny":
		r.deny, err = callers.Patterns(name, v)
		return err
	case "routes", "models":
	default:
		if known, err := r.Set(name, v); known {
			return err
		}
	}
	return nexus.Error("unknown key " + name + ": write keys, tenants, teams, tiers, allow or deny")
}

func (g *guard) addSchema(tools string, v nexus.JSON) error {
	at := "schemas." + string(callers.AppendPlain(nil, []byte(tools), 64))
	if err := callers.Pattern(at, tools); err != nil {
		return err
	}
	s := schema{tools: tools}
	if err := s.tree.parse([]byte(v.Raw())); err != nil {
		return nexus.Error(at + ": the schema cannot be read: " + err.Error())
	}
	if err := s.tree.sound(0, 0); err != nil {
		return nexus.Error(at + ": " + err.Error())
	}
	g.schemas = append(g.schemas, s)
	return nil
}
