package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/nexus-gateway/nexus/core/setting"
)

// A field is one setting as its struct declares it.
type field struct {
	name       string
	index      []int
	typ        reflect.Type
	fallback   string // as written in a file
	hasDefault bool
	enum       []string
	doc        string
}

// fields lists the settings of a struct in the order declared, those of an inlined struct among them.
// What has no yaml tag, or the tag "-", is not a setting.
func fields(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, options, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if slices.Contains(strings.Split(options, ","), "inline") {
			for _, f := range fields(sf.Type) {
				f.index = append([]int{i}, f.index...)
				list = append(list, f)
			}
			continue
		}
		if name == "" || name == "-" || !sf.IsExported() {
			continue
		}
		f := field{name: name, index: []int{i}, typ: sf.Type, doc: sf.Tag.Get("doc")}
		f.fallback, f.hasDefault = sf.Tag.Lookup("default")
		if enum := sf.Tag.Get("enum"); enum != "" {
			f.enum = strings.Split(enum, ",")
		}
		list = append(list, f)
	}
	return list
}

func find(list []field, name string) (field, bool) {
	for _, f := range list {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

// setDefaults fills a struct and the structs in it. An optional section, that is a pointer without a
// default, stays nil.
func setDefaults(v reflect.Value) error {
	for _, f := range fields(v.Type()) {
		if err := f.setDefault(v.FieldByIndex(f.index)); err != nil {
			return err
		}
	}
	return nil
}

func (f field) setDefault(v reflect.Value) error {
	if v.Kind() == reflect.Struct && !isScalar(v.Type()) {
		return setDefaults(v)
	}
	if !f.hasDefault {
		return nil
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if err := f.parseDefault(v); err != nil {
		return fmt.Errorf("the default of %s: %w", f.name, err)
	}
	return nil
}

// parseDefault reads the default of a scalar, or of a list of scalars as "a,b".
func (f field) parseDefault(v reflect.Value) error {
	switch {
	case isScalar(v.Type()):
		return f.setOne(v, f.fallback)
	case v.Kind() == reflect.Slice:
		for _, item := range f.defaultItems() {
			one := reflect.New(v.Type().Elem()).Elem()
			if err := f.setOne(one, item); err != nil {
				return err
			}
			v.Set(reflect.Append(v, one))
		}
		return nil
	case v.Kind() == reflect.Map && strings.Trim(f.fallback, "{}") == "":
		return nil
	}
	return fmt.Errorf("a %s can have none", v.Type())
}

func (f field) setOne(v reflect.Value, text string) error {
	if len(f.enum) > 0 && text != "" && !slices.Contains(f.enum, text) {
		return fmt.Errorf("%q is none of %s", text, listed(f.enum))
	}
	if text == "" && v.Kind() != reflect.String {
		return nil
	}
	return set(v, text)
}

func (f field) defaultItems() []string {
	inner := strings.TrimSuffix(strings.TrimPrefix(f.fallback, "["), "]")
	if inner == "" {
		return nil
	}
	items := strings.Split(inner, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

type validator interface{ Validate(setting.Problems) }

// check calls Validate on every value of the tree that has it, the outer before the inner.
func check(v reflect.Value, p setting.Problems) {
	if c, ok := v.Addr().Interface().(validator); ok && v.Kind() != reflect.Pointer {
		c.Validate(p)
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			check(v.Elem(), p)
		}
	case reflect.Struct:
		if !isScalar(v.Type()) {
			checkFields(v, p)
		}
	case reflect.Slice:
		for i := range v.Len() {
			check(v.Index(i), p.In(fmt.Sprintf("[%d]", i)))
		}
	case reflect.Map:
		checkMap(v, p)
	}
}

func checkFields(v reflect.Value, p setting.Problems) {
	for i := range v.NumField() {
		if slices.Contains(strings.Split(v.Type().Field(i).Tag.Get("yaml"), ","), "inline") {
			check(v.Field(i), p)
		}
	}
	for _, f := range fields(v.Type()) {
		if len(f.index) == 1 {
			check(v.FieldByIndex(f.index), p.In(f.name))
		}
	}
}

// checkMap checks copies, which is all that a map gives, and puts them back for a Validate that keeps
// what it has parsed.
func checkMap(v reflect.Value, p setting.Problems) {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
	for _, key := range keys {
		item := reflect.New(v.Type().Elem()).Elem()
		item.Set(v.MapIndex(key))
		check(item, p.In(key.String()))
		v.SetMapIndex(key, item)
	}
}

// listed writes an enum's values for people; an empty one is the absence of a value.
func listed(enum []string) string {
	return strings.TrimPrefix(strings.Join(enum, ", "), ", ")
}

// hint names the known key that an unknown one was probably meant to be, or else all there are.
func hint(key string, known []field) string {
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.name
	}
	if near := didYouMean(key, names); near != "" {
		return near
	}
	if len(names) == 0 {
		return ""
	}
	return "; known here: " + strings.Join(names, ", ")
}

// didYouMean returns "; did you mean …?" when one of names is near enough to text.
func didYouMean(text string, names []string) string {
	best := setting.Nearest(text, names)
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}
