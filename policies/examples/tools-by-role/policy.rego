# METADATA
# title: Tools by role
# description: |
#   A call may offer the model only the tools that the caller's roles allow; "*" allows all. Whoever has no role may offer
#   none. The tools that are too many are named in the log and to the caller.
package nexus.access

tool_not_allowed := {
	"code": "tool_not_allowed",
	"message": sprintf("허용되지 않은 도구입니다: %s", [concat(", ", sort(_surplus))]),
	"reason": sprintf("roles %v, tools %v", [input.principal.roles, sort(_surplus)]),
} if {
	count(_surplus) > 0
}

_surplus := {tool |
	some tool in input.request.tools
	not tool in _allowed
	not "*" in _allowed
}

_allowed := {tool |
	some role in input.principal.roles
	some tool in data.tools[role]
}
