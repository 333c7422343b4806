package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/nexus-gateway/nexus/core/setting"
)

var (
	durationType    = reflect.TypeFor[time.Duration]()
	secretType      = reflect.TypeFor[setting.Secret]()
	sizeType        = reflect.TypeFor[setting.Size]()
	unmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// isScalar reports whether a setting of type t is written as one word of text.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return isTextual(t)
}

// isTextual reports whether a setting of type t may stand in quotes.
func isTextual(t reflect.Type) bool {
	return t.Kind() == reflect.String || t == durationType || reflect.PointerTo(t).Implements(unmarshalerType)
}

// scalar reads one word into v.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, f field, path string) {
	t := v.Type()
	if n.Kind != yaml.ScalarNode {
		d.addf(n, path, "wants %s, not %s", wants(t), saw(n))
		return
	}
	d.source.at[path] = position{n.Line, n.Column}
	text, fromOutside, ok := d.text(n, t, path)
	if !ok {
		return
	}
	if quoted := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0; quoted && !fromOutside && !isTextual(t) {
		d.addf(n, path, "wants %s; take off the quotes", wants(t))
		return
	}
	err := set(v, text)
	if err == nil && len(f.enum) > 0 && !slices.Contains(f.enum, text) {
		err = fmt.Errorf("%q is none of %s%s", text, listed(f.enum), didYouMean(text, f.enum))
	}
	switch {
	case err != nil && fromOutside: // the text may be a secret in the wrong place
		d.addf(n, path, "what %s stands for is not %s", n.Value, wantsOneOf(t, f.enum))
	case err != nil:
		d.addf(n, path, "%v", err)
	}
}

// text returns what a scalar stands for, and whether any of it came from outside the file.
func (d *decoder) text(n *yaml.Node, t reflect.Type, path string) (text string, fromOutside, ok bool) {
	text, fromOutside, err := d.expand(n.Value)
	if err == nil && t == secretType {
		text, fromOutside, err = d.secret(n.Value, text, fromOutside)
	}
	if err != nil {
		d.addf(n, path, "%v", err)
		return "", false, false
	}
	return text, fromOutside, true
}

func (d *decoder) freeScalar(n *yaml.Node, path string) any {
	d.source.at[path] = position{n.Line, n.Column}
	text, fromOutside, ok := d.text(n, nil, path)
	if !ok || isNull(n) {
		return nil
	}
	if fromOutside {
		return text
	}
	switch n.ShortTag() {
	case "!!bool":
		return strings.EqualFold(text, "true")
	case "!!int", "!!float":
		number, err := freeNumber(text)
		if err != nil {
			d.addf(n, path, "%v", err)
		}
		return number
	}
	return text
}

func freeNumber(text string) (any, error) {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil && !leadingZero(text) {
		return i, nil
	}
	var f float64
	err := set(reflect.ValueOf(&f).Elem(), text)
	return f, err
}

// set reads text, as written in a file or a default tag, into v.
func set(v reflect.Value, text string) error {
	if v.Type() == durationType {
		return setDuration(v, text)
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return nil
	case reflect.Bool:
		return setBool(v, text)
	case reflect.Float32, reflect.Float64:
		return setFloat(v, text)
	}
	return setInt(v, text)
}

func setBool(v reflect.Value, text string) error {
	switch text {
	case "true", "True", "TRUE":
		v.SetBool(true)
	case "false", "False", "FALSE":
		v.SetBool(false)
	default:
		return fmt.Errorf("%q is neither true nor false", text)
	}
	return nil
}

// setDuration refuses what a duration without a unit or below nothing could only mean by mistake.
func setDuration(v reflect.Value, text string) error {
	x, err := time.ParseDuration(text)
	if _, number := strconv.ParseFloat(text, 64); err != nil && number == nil {
		return fmt.Errorf("%q has no unit; write %ss for seconds, %sms for milliseconds", text, text, text)
	}
	if days, ok := strings.CutSuffix(text, "d"); err != nil && ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return fmt.Errorf("%q is not a duration; for days write hours: %dh", text, 24*n)
		}
	}
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 500ms, 5s, 2m or 1h30m", text)
	}
	if x < 0 {
		return fmt.Errorf("%q is below nothing", text)
	}
	v.SetInt(int64(x))
	return nil
}

// setInt reads decimal digits only: 010 is eight to some readers of YAML and ten to others.
func setInt(v reflect.Value, text string) error {
	if leadingZero(text) {
		return fmt.Errorf("%q begins with a zero; write a decimal number without", text)
	}
	var err error
	if v.CanUint() {
		var x uint64
		x, err = strconv.ParseUint(text, 10, v.Type().Bits())
		v.SetUint(x)
	} else {
		var x int64
		x, err = strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(x)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%s is out of range", text)
	case v.CanUint() && strings.HasPrefix(text, "-"):
		return fmt.Errorf("%s is below nothing", text)
	}
	return fmt.Errorf("%q is not a whole number", text)
}

func leadingZero(text string) bool {
	digits := strings.TrimLeft(text, "+-")
	return len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9'
}

func setFloat(v reflect.Value, text string) error {
	x, err := strconv.ParseFloat(text, v.Type().Bits())
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%s is out of range", text)
	}
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) || strings.ContainsAny(text, "xXpP_") {
		return fmt.Errorf("%q is not a number", text)
	}
	v.SetFloat(x)
	return nil
}

// wants says in the reader's words what a setting of type t is.
func wants(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a duration such as 5s"
	case t == sizeType:
		return "a size such as 32MiB"
	case t == secretType:
		return "a secret, ${NAME} or file:/path"
	case isTextual(t):
		return "text"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

func wantsOneOf(t reflect.Type, enum []string) string {
	if len(enum) > 0 {
		return "one of " + listed(enum)
	}
	return wants(t)
}

// saw says what stands in a setting's place instead.
func saw(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a section"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case isNull(n):
		return "nothing"
	}
	return "a single value"
}

func isNull(n *yaml.Node) bool {
	return n.Kind == 0 || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// emptyForm says how to write that nothing is wanted.
func emptyForm(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case isScalar(t):
		return "; remove the key to take the default"
	case t.Kind() == reflect.Slice:
		return "; write [] for an empty list"
	}
	return "; write {} to take every default"
}
