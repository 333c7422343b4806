package main

// A keyword is a member of a schema that says something of values.
type keyword struct {
	name string
	on   kind // kinds of value that it speaks of; 0: all
	own  bool // it judges the value itself, and not by schemas within
	test func(*check, place) outcome
}

// keywordOf finds a keyword; one without a test says nothing. Those that would need more than is here, regular
// expressions above all, are listed too: an operator's schema that holds one is refused, and in a request's schema what
// they would say is unknown.
func keywordOf(name []byte) keyword {
	switch string(name) {
	case "type":
		return keyword{"type", 0, true, (*check).typed}
	case "properties":
		return keyword{"properties", isObject, false, (*check).properties}
	case "required":
		return keyword{"required", isObject, true, (*check).required}
	case "enum":
		return keyword{"enum", 0, true, (*check).enum}
	case "const":
		return keyword{"const", 0, true, (*check).constant}
	case "items":
		return keyword{"items", isArray, false, (*check).items}
	case "prefixItems":
		return keyword{"prefixItems", isArray, false, (*check).prefix}
	case "additionalItems":
		return keyword{"additionalItems", isArray, false, (*check).rest}
	case "additionalProperties":
		return keyword{"additionalProperties", isObject, false, (*check).additional}
	case "minimum":
		return keyword{"minimum", isNumber, true, (*check).minimum}
	case "maximum":
		return keyword{"maximum", isNumber, true, (*check).maximum}
	case "exclusiveMinimum":
		return keyword{"exclusiveMinimum", isNumber, true, (*check).above}
	case "exclusiveMaximum":
		return keyword{"exclusiveMaximum", isNumber, true, (*check).below}
	case "multipleOf":
		return keyword{"multipleOf", isNumber, true, (*check).multiple}
	case "minLength":
		return keyword{"minLength", isString, true, (*check).atLeast}
	case "maxLength":
		return keyword{"maxLength", isString, true, (*check).atMost}
	case "minItems":
		return keyword{"minItems", isArray, true, (*check).atLeast}
	case "maxItems":
		return keyword{"maxItems", isArray, true, (*check).atMost}
	case "uniqueItems":
		return keyword{"uniqueItems", isArray, true, (*check).unique}
	case "minProperties":
		return keyword{"minProperties", isObject, true, (*check).atLeast}
	case "maxProperties":
		return keyword{"maxProperties", isObject, true, (*check).atMost}
	case "anyOf":
		return keyword{"anyOf", 0, true, (*check).anyOf}
	case "oneOf":
		return keyword{"oneOf", 0, true, (*check).oneOf}
	case "allOf":
		return keyword{"allOf", 0, false, (*check).allOf}
	case "not":
		return keyword{"not", 0, true, (*check).not}
	case "$ref":
		return keyword{"$ref", 0, false, (*check).ref}
	}
	if on := unjudged(name); on != 0 {
		return keyword{"", on, false, (*check).notJudged}
	}
	return keyword{}
}

const anything = isNull | isBool | isNumber | isString | isArray | isObject

// unjudged says of which values a keyword speaks that is not judged here; 0: it is no such keyword.
func unjudged(name []byte) kind {
	switch string(name) {
	case "pattern":
		return isString
	case "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties":
		return isObject
	case "unevaluatedItems", "contains":
		return isArray
	case "if", "$dynamicRef", "$recursiveRef":
		return anything
	}
	return 0
}

func (c *check) notJudged(place) outcome { return unknown }
