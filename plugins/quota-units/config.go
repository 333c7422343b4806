package main

import (
	"strconv"

	"github.com/nexus-gateway/nexus/plugins/callers"
	nexus "github.com/nexus-gateway/nexus/sdk/go"
)

// Bounds of a configuration.
const (
	maxOverrides = 256
	maxWeights   = 256
	maxWeight    = 1_000_000 * unit // of one token or request
	maxTokens    = 10_000_000
)

func newQuota() quota {
	return quota{by: "tenant", window: window{name: "day"}, limit: -1, bytesPerToken: 4, completion: 512}
}

// configure reads the plugin's configuration; the manifest says what may stand there.
func (q *quota) configure(config []byte) error {
	next := newQuota()
	if len(config) > 0 {
		doc, err := nexus.ParseJSON(config)
		if err != nil {
			return err
		}
		if err := doc.EachMember(next.set); err != nil {
			return err
		}
	}
	switch last := len(next.weights) - 1; {
	case next.limit < 0:
		return nexus.Error("limit is missing: how many units there are in a window")
	case last < 0:
		return nexus.Error("weights are missing: what a request and its tokens cost")
	case len(next.weights[last].models) > 0:
		return nexus.Error("the last of weights must name no models, so that every model has its price")
	}
	*q = next
	return nil
}

func (q *quota) set(name string, v nexus.JSON) (err error) {
	switch name {
	case "by":
		q.by, err = oneOf(name, v, "key", "tenant", "team")
	case "window":
		q.window.name, err = oneOf(name, v, "minute", "hour", "day", "month")
	case "offset":
		text, _ := v.Text()
		q.window.offset, err = parseOffset(text)
	case "limit":
		q.limit, err = amountOf(name, v, maxAmount)
	case "overrides":
		return list(name, v, maxOverrides, q.addOverride)
	case "weights":
		return list(name, v, maxWeights, q.addWeights)
	case "bytes_per_token":
		q.bytesPerToken, err = tokens(name, v, 64)
	case "completion_tokens":
		q.completion, err = tokens(name, v, maxTokens)
	case "most_completion_tokens":
		q.mostCompletion, err = tokens(name, v, maxTokens)
	case "cut":
		ok := false
		if q.cut, ok = v.Bool(); !ok {
			return nexus.Error("cut must be true or false")
		}
	default:
		return nexus.Error("unknown key " + name + ": write by, window, offset, limit, overrides, weights, bytes_per_token, completion_tokens, most_completion_tokens or cut")
	}
	return err
}

func oneOf(name string, v nexus.JSON, words ...string) (string, error) {
	text, _ := v.Text()
	list := ""
	for _, w := range words {
		if text == w {
			return text, nil
		}
		list += " " + w
	}
	return "", nexus.Error(name + " must be one of" + list)
}

func amountOf(name string, v nexus.JSON, most amount) (amount, error) {
	if v.Kind() != nexus.KindNumber {
		return 0, nexus.Error(name + " " + errDecimal.Error())
	}
	a, err := parseAmount(v.Raw())
	if err == nil && a > most {
		return 0, nexus.Error(name + " must be at most " + most.String())
	}
	if err != nil {
		return 0, nexus.Error(name + " " + err.Error())
	}
	return a, nil
}

func tokens(name string, v nexus.JSON, most int64) (int64, error) {
	n, ok := v.Int()
	if !ok || n < 0 || n > most {
		return 0, nexus.Error(name + " must be a whole number from 0 to " + strconv.FormatInt(most, 10))
	}
	return n, nil
}

// list reads a list of objects.
func list(name string, v nexus.JSON, most int, add func(nexus.JSON) error) error {
	if v.Kind() != nexus.KindList || v.Len() > most {
		return nexus.Error(name + " must be a list of at most " + strconv.Itoa(most))
	}
	return v.EachElement(func(i int, v nexus.JSON) error {
		err := error(nexus.Error("must be an object"))
		if v.Kind() == nexus.KindObject {
			err = add(v)
		}
		if err != nil {
			return nexus.Error(name + "[" + strconv.Itoa(i) + "]: " + err.Error())
		}
		return nil
	})
}

func (q *quota) addOverride(v nexus.JSON) error {
	o := override{limit: -1}
	err := v.EachMember(func(name string, v nexus.JSON) (err error) {
		switch name {
		case "limit":
			o.limit, err = amountOf(name, v, maxAmount)
			return err
		case "routes", "models":
		default:
			if known, err := o.Set(name, v); known {
				return err
			}
		}
		return nexus.Error("unknown key " + name + ": write keys, tenants, teams, tiers or limit")
	})
	if err == nil && o.limit < 0 {
		return nexus.Error("limit is missing")
	}
	q.overrides = append(q.overrides, o)
	return err
}

func (q *quota) addWeights(v nexus.JSON) error {
	w := weights{cached: -1}
	err := v.EachMember(func(name string, v nexus.JSON) (err error) {
		switch name {
		case "models":
			w.models, err = callers.Patterns(name, v)
		case "request":
			w.request, err = amountOf(name, v, maxWeight)
		case "prompt":
			w.prompt, err = amountOf(name, v, maxWeight)
		case "cached":
			w.cached, err = amountOf(name, v, maxWeight)
		case "completion":
			w.completion, err = amountOf(name, v, maxWeight)
		default:
			return nexus.Error("unknown key " + name + ": write models, request, prompt, cached or completion")
		}
		return err
	})
	if w.cached < 0 {
		w.cached = w.prompt
	}
	q.weights = append(q.weights, w)
	return err
}
