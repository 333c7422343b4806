# METADATA
# title: The library that turns small named rules into one decision
# description: |
#   Four packages hold the rules. A rule whose value is an object claims the call; a rule whose name
#   begins with "_", and any function, is a helper.
#     nexus.access  who may:          the claim denies, unless its "action" says otherwise
#     nexus.routes  where to:         the claim gives targets and what to change
#     nexus.limits  how much:         every claim counts
#     nexus.masks   what is hidden:   the claim gives the mask profile
#   Where several rules claim a call, the highest "priority" wins (0 where none is given). Two rules of
#   the same priority are a conflict that names both. Denials agree with each other: the first by name
#   speaks, and "matched" lists all.
package nexus

# What the rules claim, by "package.rule".
_access := {concat(".", ["access", name]): claim | some name, claim in data.nexus.access; startswith(name, "_") == false}

_routes := {concat(".", ["routes", name]): claim | some name, claim in data.nexus.routes; startswith(name, "_") == false}

_limits := {concat(".", ["limits", name]): claim | some name, claim in data.nexus.limits; startswith(name, "_") == false}

_masks := {concat(".", ["masks", name]): claim | some name, claim in data.nexus.masks; startswith(name, "_") == false}

# METADATA
# title: The decision
# description: One document per call, as decision.schema.json describes it.
# entrypoint: true
decision := object.union({"action": "allow", "rule": rule, "matched": {rule}}, object.remove(claim, {"priority"})) if {
	_plain
	count(_routes) == 1
	some rule, claim in _routes
}

else := {"action": "allow", "rule": "default", "matched": set()} if {
	_plain
	count(_routes) == 0
}

else := object.union_n([{"action": "allow", "rule": rule}, object.remove(_routes[rule], {"priority"}), {"matched": object.keys(_routes)}]) if {
	_plain
	[rule] = _leading
}

else := object.union(_refusal, {"matched": _matched}) if _refusal

else := {"conflict": _rivals} if {
	count(_all) > 1 # asks for every rule: one that fails is an error, whatever else is claimed
	_rivals
}

else := object.union_n([_route, _mask, _limit, {"matched": _matched}])

# Nothing but routes is claimed. What follows from that comes first above: it is the common case, and
# needs no more than this. Where a package has no rules, this is found out once and not for each call.
_plain if {
	count(_access) == 0
	count(_limits) == 0
	count(_masks) == 0
}

_all := object.union_n([_access, _routes, _limits, _masks])

_matched := object.keys(_all)

# The denial, or the answer, that nexus.access claims.
_refusal := _spread(rule, _access[rule]) if {
	count(_access) > 0
	leaders := _leaders(_access)
	count({_verb(_access[name]) | some name in leaders}) == 1
	rule := leaders[0]
	_verb(_access[rule]) != "allow"
}

_verb(claim) := object.get(claim, "action", "deny")

# A claim of nexus.access, spread over the members of a decision. What is left over stays where it is,
# so that a misspelt member is found by the check of the decision.
_spread(rule, claim) := object.union_n([
	{"action": "deny", "rule": rule, "deny": object.filter(claim, _told)},
	object.remove(claim, _told | {"priority"}),
]) if {
	_verb(claim) == "deny"
}

_spread(rule, claim) := object.union({"rule": rule}, object.remove(claim, {"priority"})) if _verb(claim) != "deny"

_told := {"status", "code", "message", "retry_after"}

# Rules that claim the call with equal priority and do not agree.
_rivals := _leaders(_access) if {
	count(_access) > 1
	count({_verb(_access[name]) | some name in _leaders(_access)}) > 1
}

else := leaders if {
	count(_leading) > 1
	leaders := _leading
}

else := leaders if {
	count(_masks) > 1
	leaders := _leaders(_masks)
	count(leaders) > 1
}

_leading := _leaders(_routes)

# The names of the claims with the highest priority, in order.
_leaders(claims) := sort([name | some name, claim in claims; object.get(claim, "priority", 0) == highest]) if {
	highest := max([object.get(claim, "priority", 0) | some claim in claims])
}

_route := object.union({"action": "allow", "rule": rule}, object.remove(_routes[rule], {"priority"})) if {
	count(_routes) > 0
	rule := _leading[0]
}

else := {"action": "allow", "rule": "default"}

_mask := {"mask": object.remove(_masks[rule], {"priority", "reason"})} if {
	count(_masks) > 0
	rule := _leaders(_masks)[0]
}

else := {}

_limit := object.union(_counts, _cap) if count(_limits) > 0

else := {}

_counts := {"limits": sort([object.union({"key": name}, object.remove(claim, {"max_tokens", "reason"})) |
	some name, claim in _limits
	object.keys(claim) - {"max_tokens", "reason"} != set()
])}

# The smallest max_tokens that any rule asks for.
_cap := {"set": object.union(object.get(_route, "set", {}), {"max_tokens": min(caps)})} if {
	asked := {claim.max_tokens | some claim in _limits}
	count(asked) > 0
	caps := asked | {n | n := _route.set.max_tokens}
}

else := {}
