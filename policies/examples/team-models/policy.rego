# METADATA
# title: Models by team
# description: |
#   Each team may use the models of its list, where a "*" at the end stands for any end; a team that has no list may use
#   none. Staff of the platform team may use all: an exemption, which has the higher priority.
package nexus.access

model_not_allowed := {
	"status": 404,
	"code": "model_not_found",
	"message": sprintf("이 팀에 허용되지 않은 모델입니다. The model %q does not exist or this team may not use it.", [input.request.model]),
	"reason": sprintf("team %v, model %v", [input.principal.team, input.request.model]),
} if {
	not _listed
}

platform := {"action": "allow", "priority": 10} if input.principal.team == "플랫폼팀"

_listed if {
	some pattern in data.teams[input.principal.team]
	_fits(pattern, input.request.model)
}

_fits(pattern, model) if pattern == model

_fits(pattern, model) if {
	endswith(pattern, "*")
	startswith(model, trim_suffix(pattern, "*"))
}
