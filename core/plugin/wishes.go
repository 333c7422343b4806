package plugin

import (
	"errors"
	"fmt"

	"github.com/nexus-gateway/nexus/core/pipeline"
)

// wishes are what a guest told host functions in one question. They come true when the question is answered, and are
// forgotten when the plugin fails: what a plugin says that failed is as if it had not been said.
type wishes struct {
	labels      [][2]string
	vault       []pipeline.Token
	model, pool string
}

// Bounds of what host functions may be told, in bytes and numbers.
const (
	maxLabels = 256 // of a call
	maxTokens = 1024
	maxToken  = 128
	maxValue  = 4 << 10
	maxKey    = 256
)

func (t *turn) wish() *wishes {
	if t.wishes == nil {
		t.wishes = &wishes{}
	}
	return t.wishes
}

// label is what this question's or an earlier one's plugin said under name.
func (t *turn) label(name []byte) (string, bool) {
	if t.wishes != nil {
		for i := len(t.wishes.labels) - 1; i >= 0; i-- {
			if l := t.wishes.labels[i]; l[0] == string(name) {
				return l[1], true
			}
		}
	}
	value, ok := t.call.Labels[string(name)]
	return value, ok
}

func (t *turn) setLabel(name, value string) error {
	if err := checkLabel(name, value); err != nil {
		return err
	}
	w := t.wish()
	if len(w.labels)+len(t.call.Labels) >= maxLabels {
		return fmt.Errorf("a call has at most %d labels", maxLabels)
	}
	w.labels = append(w.labels, [2]string{name, value})
	return nil
}

func checkLabel(name, value string) error {
	if name == "" || len(name) > maxLabelName || len(value) > maxLabelValue || !plainText(name) || !plainText(value) {
		return fmt.Errorf("label %q: a name of up to %d bytes and a value of up to %d without control characters are wanted", name, maxLabelName, maxLabelValue)
	}
	return nil
}

// put notes that token stands for value. A token stands for one value in a call.
func (t *turn) put(token, value string) error {
	switch {
	case token == "" || len(token) > maxToken || !plainText(token):
		return fmt.Errorf("a token of 1 to %d bytes without control characters is wanted", maxToken)
	case value == "" || len(value) > maxValue:
		return fmt.Errorf("a value of 1 to %d bytes is wanted", maxValue)
	}
	w := t.wish()
	for _, list := range [...][]pipeline.Token{t.call.Vault, w.vault} {
		for i := range list {
			if list[i].Token != token {
				continue
			}
			if list[i].Value != value {
				return errors.New("the token already stands for another value")
			}
			return nil
		}
	}
	if len(t.call.Vault)+len(w.vault) >= maxTokens {
		return fmt.Errorf("a call has at most %d tokens", maxTokens)
	}
	w.vault = append(w.vault, pipeline.Token{Token: token, Value: value})
	return nil
}

// grant makes the wishes true.
func (w *wishes) grant(c *pipeline.Call) {
	if len(w.labels) > 0 && c.Labels == nil {
		c.Labels = make(map[string]string, len(w.labels))
	}
	for _, l := range w.labels {
		c.Labels[l[0]] = l[1]
	}
	c.Vault = append(c.Vault, w.vault...)
	if w.model != "" {
		c.Request.Model = w.model
	}
	if w.pool != "" {
		c.Pool = w.pool
	}
}
