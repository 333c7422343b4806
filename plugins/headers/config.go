package main

import (
	"strconv"

	"github.com/nexus-gateway/nexus/plugins/callers"
	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

// Bounds of a configuration.
const (
	maxRules   = 256
	maxChanges = 32 // of one list
)

// configure reads the plugin's configuration; the manifest says what may stand there.
func (p *policy) configure(config []byte) error {
	var next policy
	if len(config) > 0 {
		doc, err := nexus.ParseJSON(config)
		if err != nil {
			return err
		}
		if err := doc.EachMember(next.set); err != nil {
			return err
		}
	}
	if len(next.rules) == 0 {
		return nexus.Error("there is nothing to do: write rules")
	}
	*p = next
	return nil
}

func (p *policy) set(name string, v nexus.JSON) error {
	if name != "rules" {
		return nexus.Error("unknown key " + name + ": write rules")
	}
	if v.Kind() != nexus.KindList || v.Len() > maxRules {
		return nexus.Error("rules must be a list of at most 256 rules")
	}
	return v.EachElement(func(i int, v nexus.JSON) error {
		var r rule
		err := error(nexus.Error("must be an object"))
		if v.Kind() == nexus.KindObject {
			err = v.EachMember(r.set)
		}
		p.rules = append(p.rules, r)
		return within("rules["+strconv.Itoa(i)+"]", err)
	})
}

// within says where a fault is.
func within(at string, err error) error {
	if err == nil {
		return nil
	}
	return nexus.Error(at + ": " + err.Error())
}

func (l *rule) set(name string, v nexus.JSON) (err error) {
	switch name {
	case "require":
		l.require, err = nameList(name, v, asked)
	case "forbid":
		l.forbid, err = nameList(name, v, asked)
	case "request":
		return within(name, l.setRequest(v))
	case "reply":
		return within(name, l.setReply(v))
	default:
		known, err := l.Set(name, v)
		if !known {
			return nexus.Error("unknown key " + name + ": write keys, tenants, teams, tiers, routes, models, require, forbid, request or reply")
		}
		return err
	}
	return err
}

func nameList(at string, v nexus.JSON, check func(string) (string, error)) ([]string, error) {
	list, ok := v.Texts()
	if !ok || len(list) > maxChanges {
		return nil, nexus.Error(at + " must be a list of at most 32 headers' names")
	}
	for i, name := range list {
		lower, err := check(name)
		if err != nil {
			return nil, within(at, err)
		}
		list[i] = lower
	}
	return list, nil
}

func (l *rule) setRequest(v nexus.JSON) error {
	if v.Kind() != nexus.KindObject {
		return nexus.Error("must be an object: set, forward and remove")
	}
	return v.EachMember(func(name string, v nexus.JSON) (err error) {
		switch name {
		case "set":
			return setAll(&l.request, v, toBackend)
		case "remove":
			return removeAll(&l.request, v, toBackend)
		case "forward":
			l.forward, err = nameList(name, v, forwarded)
			return err
		}
		return nexus.Error("unknown key " + name + ": write set, forward or remove")
	})
}

func (l *rule) setReply(v nexus.JSON) error {
	if v.Kind() != nexus.KindObject {
		return nexus.Error("must be an object: set and remove")
	}
	return v.EachMember(func(name string, v nexus.JSON) error {
		switch name {
		case "set":
			return setAll(&l.reply, v, toCaller)
		case "remove":
			return removeAll(&l.reply, v, toCaller)
		}
		return nexus.Error("unknown key " + name + ": write set or remove")
	})
}

// setAll reads names and values.
func setAll(changes *[]change, v nexus.JSON, check func(string) (string, error)) error {
	if v.Kind() != nexus.KindObject || v.Len() > maxChanges {
		return nexus.Error("set must be an object of at most 32 headers and their values")
	}
	return v.EachMember(func(name string, v nexus.JSON) error {
		lower, err := check(name)
		if err != nil {
			return within("set", err)
		}
		text, ok := v.Text()
		if !ok || text == "" || len(text) > maxValue || string(appendASCII(nil, []byte(text))) != text {
			return nexus.Error("set: the value of " + lower + " must be a text of 1 to 512 ASCII characters")
		}
		value, err := callers.ParseTemplate(text, holes...)
		*changes = append(*changes, change{lower, value})
		return within("set: "+lower, err)
	})
}

func removeAll(changes *[]change, v nexus.JSON, check func(string) (string, error)) error {
	list, err := nameList("remove", v, check)
	for _, name := range list {
		*changes = append(*changes, change{name: name})
	}
	return err
}
