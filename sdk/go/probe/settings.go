package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// A setting is what the probe was configured with.
type setting struct {
	word, with string
	fail, log  bool
}

var settings = setting{word: "secret", with: "[WORD]"}

func (s *setting) read(config []byte) error {
	next := setting{word: "secret", with: "[WORD]"}
	if err := nexus.EachSetting(config, next.take); err != nil {
		return err
	}
	if next.fail {
		return nexus.Error("asked to fail")
	}
	*s = next
	if s.log {
		nexus.Log("probe ready")
	}
	return nil
}

func (s *setting) take(key string, v nexus.Value) error {
	ok := false
	switch key {
	case "word":
		if s.word, ok = v.String(); !ok || s.word == "" || len(s.word) > 64 {
			return nexus.Error("word must be a text of 1 to 64 bytes")
		}
	case "with":
		if s.with, ok = v.String(); !ok || len(s.with) > 64 {
			return nexus.Error("with must be a text of up to 64 bytes")
		}
	case "fail":
		if s.fail, ok = v.Bool(); !ok {
			return nexus.Error("fail must be true or false")
		}
	case "log":
		if s.log, ok = v.Bool(); !ok {
			return nexus.Error("log must be true or false")
		}
	default:
		return nexus.Error("unknown key " + key)
	}
	return nil
}
